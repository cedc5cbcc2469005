/* Histograms, and what the kernel knows of the server's CPU time and memory. */
#include "generator.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct totals totals;

/* 32 bins an octave, so a quantile is right within 3 %; the first 32 are 250 ns wide. */
static int bin_of(uint64_t nanoseconds)
{
    uint64_t units = nanoseconds / 250;
    if (units < 32)
        return (int)units;
    int octave = 63 - __builtin_clzll(units);
    int bin = (octave - 4) * 32 + (int)((units >> (octave - 5)) & 31);
    return bin < 2048 ? bin : 2047;
}

static double middle_ns(int bin)
{
    if (bin < 32)
        return 250.0 * bin + 125;
    int octave = bin / 32 + 4;
    return 250.0 * ((double)(1ull << octave) + (bin % 32 + 0.5) * (double)(1ull << (octave - 5)));
}

void record(struct histogram *h, uint64_t nanoseconds)
{
    h->bins[bin_of(nanoseconds)]++;
    h->count++;
    h->sum += (double)nanoseconds;
    if ((double)nanoseconds > h->max)
        h->max = (double)nanoseconds;
}

double quantile_ms(const struct histogram *h, double q)
{
    uint64_t wanted = (uint64_t)((double)h->count * q), seen = 0;
    for (int bin = 0; bin < 2048; bin++) {
        seen += h->bins[bin];
        if (seen > wanted)
            return (middle_ns(bin) < h->max ? middle_ns(bin) : h->max) / 1e6;
    }
    return h->max / 1e6;
}

/* Calls `read` with each process id of options.pids, which are separated by commas. */
static void each_server(void (*read)(const char *pid, void *sum), void *sum)
{
    char pids[256];
    snprintf(pids, sizeof pids, "%s", options.pids ? options.pids : "");
    char *saved = NULL;
    for (char *pid = strtok_r(pids, ",", &saved); pid; pid = strtok_r(NULL, ",", &saved))
        read(pid, sum);
}

static void add_cpu(const char *pid, void *sum)
{
    char path[512];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return;
    for (struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pid, task->d_name);
        FILE *file = fopen(path, "r");
        unsigned long long nanoseconds = 0;
        if (!file)
            continue;
        if (fscanf(file, "%llu", &nanoseconds) == 1)
            *(uint64_t *)sum += nanoseconds;
        fclose(file);
    }
    closedir(tasks);
}

static void add_rss(const char *pid, void *sum)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/statm", pid);
    FILE *file = fopen(path, "r");
    long size, resident;
    if (!file)
        return;
    if (fscanf(file, "%ld %ld", &size, &resident) == 2)
        *(long *)sum += resident * sysconf(_SC_PAGESIZE);
    fclose(file);
}

uint64_t server_cpu_ns(void)
{
    uint64_t sum = 0;
    each_server(add_cpu, &sum);
    return sum;
}

long server_rss(void)
{
    long sum = 0;
    each_server(add_rss, &sum);
    return sum;
}

double own_cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}
