// The frames that all send and read, as in frame.rs, and the window in which they count, as in
// window.rs.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 42, NUMBER_AT = 34, ETHER_TYPE = 0x88b6 };

static uint8_t head[HEAD] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ETHER_TYPE >> 8, ETHER_TYPE & 0xff };
static uint64_t number;

static inline void write_frame(uint8_t *frame, size_t length, int full)
{
    number++;
    if (full)
        memset(frame, (int)number, length);
    memcpy(frame, head, HEAD);
    memcpy(frame + NUMBER_AT, &number, 8);
}

static size_t expected;
static uint64_t frames, wrong, last;
static volatile uint64_t sink;

static inline void read_frame(const uint8_t *frame, size_t length)
{
    frames++;
    if (length != expected) {
        wrong++;
        return;
    }
    uint64_t sum = sink;
    for (size_t at = 0; at + 8 <= length; at += 64) {
        uint64_t word;
        memcpy(&word, frame + at, 8);
        sum += word;
    }
    sink = sum;
    uint64_t its;
    memcpy(&its, frame + NUMBER_AT, 8);
    if (its <= last)
        wrong++;
    last = its;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void scheduled(uint64_t *cpu, uint64_t *waited)
{
    *cpu = *waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (file) {
        unsigned long long a = 0, b = 0;
        if (fscanf(file, "%llu %llu", &a, &b) == 2)
            *cpu = a, *waited = b;
        fclose(file);
    }
}

static uint64_t begin, end, began, before, cpu, waited;

// Whoever started us is told that we are ready, and says when it begins and when it ends.
static void ready(void)
{
    puts("READY");
    fflush(stdout);
    unsigned long long b, e;
    if (scanf("%llu %llu", &b, &e) != 2)
        exit(1);
    begin = b, end = e;
}

// To be called in each turn; tells what was done and returns 1 once the window is over.
static int tick(uint64_t count)
{
    uint64_t now = now_ns();
    if (now < begin)
        return 0;
    if (!began) {
        began = now, before = count;
        scheduled(&cpu, &waited);
        return 0;
    }
    if (now < end)
        return 0;
    uint64_t c, w;
    scheduled(&c, &w);
    printf("{\"frames\":%llu,\"wrong\":%llu,\"elapsed_ns\":%llu,\"cpu_ns\":%llu,\"waited_ns\":%llu}\n",
           (unsigned long long)(count - before), (unsigned long long)wrong,
           (unsigned long long)(now - began), (unsigned long long)(c - cpu),
           (unsigned long long)(w - waited));
    fflush(stdout);
    return 1;
}

// Until we are killed: a side that ended by itself would take the other's memory away under its
// hands.
static void rest(void)
{
    for (;;)
        pause();
}

// Ends with whoever started us, whatever happens to it, and at the latest after a minute.
static void mortal(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
}
