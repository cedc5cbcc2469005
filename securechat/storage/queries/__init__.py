"""The verbs of `interface.ChatStore` as functions of a DB-API cursor: SQL stands here and nowhere else.

They know nothing of threads, pools or transactions. Each runs inside a transaction that the caller began, and
may leave half of its work behind when it raises: the caller rolls back. The SQL is what SQLite and PostgreSQL
have in common, but for the placeholders. What goes in and comes out are the types of `interface`.
"""
