/* gaggle-bench-placement: what the placement policy is worth, and what it costs.
 *
 * Eight fake workers in virtual time, two of them ten times as fast as the others, serve two loads
 * under our policy and under others, each with the same arrivals:
 *
 *   mooncake   the Mooncake trace, faster or slower than it was recorded
 *   shared70   prompts of 4,000 tokens, 70 % of each shared with others, Poisson arrivals
 *
 * and both again at half the speed (`_half`). The ceiling of the throughput is what was asked for;
 * of first tokens, an idle fleet in which the fastest workers have cached all that was ever read;
 * of cached tokens, an endless cache; of the worst worker's work, 1.3 times its share by ability.
 * At half the speed the two fast workers alone can do nearly everything, and half of it is 1.3
 * times the share of each: there, that bound says nothing.
 *
 * `cost` is time on this machine. The exit status is 1 when a bound is missed: the worst share at
 * full speed, and the gains over round robin (1.5) and least outstanding requests (1.2), which must
 * be reached in throughput or in the mean time to the first token. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/placement/cost.h"
#include "bench/placement/fleet.h"
#include "common/options.h"

#define WORST_SHARE_MAX 1.3

/* A T4-like device and ten of it in one, with an 8B model. */
static const fake_engine_speed slow = {
    .prefill = 2000, .decode = 400, .slots = 16, .kv_tokens = 300000};
static const fake_engine_speed fast = {
    .prefill = 20000, .decode = 4000, .slots = 64, .kv_tokens = 2000000};
enum { FAST_WORKERS = 2 };

static const double demanded_gain[POLICY_COUNT] = {
    [POLICY_ROUND_ROBIN] = 1.5,
    [POLICY_ROUND_ROBIN_ROOM] = 1.5,
    [POLICY_LEAST_OUTSTANDING] = 1.2,
    [POLICY_LEAST_OUTSTANDING_ROOM] = 1.2,
};

static const char *trace, *commit = "-";
static double trace_speed = 0.85, shared_rate = 20;
static bool missed;

static void print_row(const char *load_name, const char *what, const char *unit, double figure,
                      double ceiling)
{
    printf("%s_%s,%.4g,%s,%.4g,%.3f,%s\n", load_name, what, figure, unit, ceiling, figure / ceiling,
           commit);
    fflush(stdout);
}

static void print_policy(const load *l, policy p, const char *what, const char *unit, double figure,
                         double ceiling)
{
    char name[96];
    snprintf(name, sizeof name, "%s_%s", policy_name(p), what);
    print_row(l->name, name, unit, figure, ceiling);
}

static void print_result(const load *l, policy p, const fleet_result *r)
{
    double offered = (double)l->answer_tokens / l->requests[l->count - 1].arrival_s;
    double read = (double)(l->prompt_tokens - l->repeated_tokens) / l->count;
    double floor_s = read / fast.prefill + fast.slots / fast.decode / 2;
    print_policy(l, p, "throughput", "token/s", r->throughput, offered);
    print_policy(l, p, "ttft_mean", "s", r->ttft_mean_s, floor_s);
    print_policy(l, p, "ttft_p99", "s", r->ttft_p99_s, floor_s);
    print_policy(l, p, "done_mean", "s", r->done_mean_s, floor_s);
    print_policy(l, p, "cached", "share", r->cached_share,
                 (double)l->repeated_tokens / (double)l->prompt_tokens);
    print_policy(l, p, "worst_worker", "share", r->worst_share, WORST_SHARE_MAX);
}

static void print_gain(const load *l, const char *over, const fleet_result *ours,
                       const fleet_result *theirs, double demanded)
{
    double throughput = ours->throughput / theirs->throughput;
    double ttft = theirs->ttft_mean_s / ours->ttft_mean_s;
    char name[96];
    snprintf(name, sizeof name, "gain_over_%s_throughput", over);
    print_row(l->name, name, "x", throughput, demanded);
    snprintf(name, sizeof name, "gain_over_%s_ttft", over);
    print_row(l->name, name, "x", ttft, demanded);
    missed |= throughput < demanded && ttft < demanded;
}

static void run_load(const load *l, bool is_full)
{
    fake_engine_speed speeds[FLEET_WORKERS];
    for (uint32_t i = 0; i < FLEET_WORKERS; i++)
        speeds[i] = i < FLEET_WORKERS - FAST_WORKERS ? slow : fast;
    fleet_result results[POLICY_COUNT];
    for (policy p = 0; p < POLICY_COUNT; p++) {
        results[p] = fleet_run(l, p, speeds);
        print_result(l, p, &results[p]);
    }
    const fleet_result *ours = &results[POLICY_GAGGLE];
    for (policy p = POLICY_ROUND_ROBIN; p < POLICY_COUNT; p++)
        print_gain(l, policy_name(p), ours, &results[p], demanded_gain[p]);
    missed |= is_full && ours->worst_share > WORST_SHARE_MAX;
}

static status run_mooncake(double speed, bool is_full, error *err)
{
    load l;
    status st = load_mooncake(&l, trace, speed, err);
    if (st != ST_OK) return st;
    if (!is_full) l.name = "mooncake_half";
    run_load(&l, is_full);
    load_free(&l);
    return ST_OK;
}

static void run_shared(double requests_per_s, bool is_full)
{
    enum { REQUESTS = 8000, GROUPS = 200 };
    load l;
    load_shared_prefix(&l, REQUESTS, GROUPS, requests_per_s);
    if (!is_full) l.name = "shared70_half";
    run_load(&l, is_full);
    load_free(&l);
}

/* 60,000 tokens of text at 500 requests a second leave 2,000 us for each. */
static void print_cost(void)
{
    static const uint32_t workers[] = {8, 100, 1000};
    enum { LONG_PROMPT_BYTES = 240000, SHORT_PROMPT_BYTES = 2400 };
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++) {
        char name[32];
        snprintf(name, sizeof name, "cost_%u_workers", workers[i]);
        placement_times brief = cost_measure(workers[i], SHORT_PROMPT_BYTES);
        placement_times full = cost_measure(workers[i], LONG_PROMPT_BYTES);
        print_row(name, "hash_2KB", "us", brief.hash_us, 100);
        print_row(name, "decide_2KB", "us", brief.decide_us, 100);
        print_row(name, "record_2KB", "us", brief.record_us, 100);
        print_row(name, "hash_240KB", "us", full.hash_us, 2000);
        print_row(name, "decide_240KB", "us", full.decide_us, 2000);
        print_row(name, "record_240KB", "us", full.record_us, 2000);
    }
}

static const char *find_trace(void)
{
    static char path[4096];
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    if (shared == NULL) return NULL;
    snprintf(path, sizeof path, "%s/traces/mooncake_synthetic_trace.jsonl", shared);
    return path;
}

int main(int argc, char **argv)
{
    bool measures_cost = true;
    const option_row rows[] = {
        {"trace", 't', OPTION_TEXT, &trace, "FILE",
         .help = "the Mooncake trace [$GAGGLE_SHARED_DATA/traces/...]"},
        {"trace-speed", 0, OPTION_F64, &trace_speed, "X",
         .help = "as fast as it was recorded times X [0.85]", .min = 0.01, .max = 100},
        {"shared-rate", 0, OPTION_F64, &shared_rate, "X",
         .help = "requests a second of shared70 [20]", .min = 0.01, .max = 10000},
        {"cost", 0, OPTION_FLAG, &measures_cost, NULL, .help = "measure processor time, too [yes]"},
        {"commit", 0, OPTION_TEXT, &commit, "ID", .help = "for the last column [-]"},
    };
    const option_table table = {"gaggle-bench-placement [options]",
                                "What the placement policy is worth, and what it costs.", rows,
                                sizeof rows / sizeof *rows,
                                "CSV on stdout. Exit status 1: a bound was missed."};
    error err = {0};
    if (options_parse(&table, argc, argv, NULL, &err) != ST_OK) {
        fprintf(stderr, "gaggle-bench-placement: %s\n", err.text);
        return 2;
    }
    printf("work,figure,unit,ceiling,ratio,commit\n");
    if (trace == NULL) trace = find_trace();
    if (trace == NULL) {
        fprintf(stderr, "skipped: mooncake: no --trace and no GAGGLE_SHARED_DATA\n");
    } else if (run_mooncake(trace_speed, true, &err) != ST_OK ||
               run_mooncake(trace_speed / 2, false, &err) != ST_OK) {
        fprintf(stderr, "skipped: mooncake: %s\n", err.text);
    }
    run_shared(shared_rate, true);
    run_shared(shared_rate / 2, false);
    if (measures_cost) print_cost();
    return missed ? 1 : 0;
}
