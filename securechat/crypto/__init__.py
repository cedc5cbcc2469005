"""Keys and ciphertexts. Pure; the only package that imports `cryptography`, passlib or bcrypt."""
