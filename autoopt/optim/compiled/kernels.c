/* One pass over memory per step: Adan and SGD-SaI.
 *
 * A step is a list of rows (one parameter with its gradient and state) and is cut into equal runs of elements,
 * one per thread. The threads are those of the OpenMP runtime that torch has loaded: its entry points come in as
 * pointers, so that this file links to none and no second runtime starts.
 *
 * Arithmetic is in float for the half precisions, else in the parameters' own type. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bfloat16;

/* --- loading and storing --- */

static inline float load_f32(float x) { return x; }
static inline float store_f32(float x) { return x; }
static inline double load_f64(double x) { return x; }
static inline double store_f64(double x) { return x; }

static inline float load_bf16(bfloat16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline bfloat16 store_bf16(float x) { /* to nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (bfloat16)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

/* --- threads --- */

typedef struct {
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel, or null: one thread */
    int (*thread)(void);                                            /* omp_get_thread_num */
    int (*threads)(void);                                           /* omp_get_num_threads */
    int64_t wanted;
} team;

typedef struct {
    void *tensors[6]; /* p, g, then the state */
    int64_t size;     /* elements */
} row;

typedef void (*body)(const row *, double, int64_t, int64_t, const void *);

typedef struct {
    const team *team;
    const row *rows;
    const double *scales; /* a factor of each row's own */
    int64_t count;
    int64_t total;
    body run;
    const void *args;
} job;

enum { LINE = 64 /* elements: no two threads write to one cache line */, SERIAL = 1 << 15 };

static void share(const job *job, int64_t index, int64_t parts) {
    int64_t lines = (job->total + LINE - 1) / LINE;
    int64_t begin = lines * index / parts * LINE, end = lines * (index + 1) / parts * LINE;
    int64_t offset = 0;
    for (int64_t i = 0; i < job->count && offset < end; offset += job->rows[i++].size) {
        int64_t from = begin > offset ? begin - offset : 0;
        int64_t to = end - offset < job->rows[i].size ? end - offset : job->rows[i].size;
        if (from < to) job->run(&job->rows[i], job->scales[i], from, to, job->args);
    }
}

static void member(void *data) {
    const job *job = data;
    share(job, job->team->thread(), job->team->threads());
}

static void dispatch(job *job) {
    for (int64_t i = 0; i < job->count; i++) job->total += job->rows[i].size;
    if (job->team->parallel && job->team->wanted > 1 && job->total > SERIAL)
        job->team->parallel(member, job, (unsigned)job->team->wanted, 0);
    else
        share(job, 0, 1);
}

/* --- Adan (arXiv 2208.06677, algorithm 1) --- */

typedef struct {
    double b1, b2, b3, eps;
    double factor;         /* of the gradient: clipping, and the sign */
    double rate_m, rate_v; /* lr / (1 - b1^t), lr b2 / (1 - b2^t) */
    double inverse_root;   /* 1 / sqrt(1 - b3^t) */
    double before, after;  /* factors of p for weight decay */
    double seen;           /* 0 at a first gradient, which counts as its own predecessor; else 1 */
} adan_args;

/* restrict counts for arguments only: hence a function for the loop. */
#define ADAN(NAME, P, PNAME, S, SNAME, T, SQRT)                                                                \
    static void NAME##_loop(int64_t count, P *restrict p, const P *restrict grad, S *restrict m, S *restrict v, \
                            S *restrict n, S *restrict prev, const adan_args a) {                              \
        const T b1 = a.b1, b2 = a.b2, b3 = a.b3, c1 = 1 - a.b1, c2 = 1 - a.b2, c3 = 1 - a.b3;                  \
        const T eps = a.eps, factor = a.factor, rate_m = a.rate_m, rate_v = a.rate_v;                          \
        const T inverse = a.inverse_root, before = a.before, after = a.after, seen = a.seen;                   \
        for (int64_t i = 0; i < count; i++) {                                                                  \
            const T g = factor * load_##PNAME(grad[i]);                                                        \
            const T d = seen * (g - load_##SNAME(prev[i]));                                                    \
            const T u = g + b2 * d;                                                                            \
            const T new_m = b1 * load_##SNAME(m[i]) + c1 * g;                                                  \
            const T new_v = b2 * load_##SNAME(v[i]) + c2 * d;                                                  \
            const T new_n = b3 * load_##SNAME(n[i]) + c3 * (u * u);                                            \
            const T move = (rate_m * new_m + rate_v * new_v) / (SQRT(new_n) * inverse + eps);                  \
            p[i] = store_##PNAME((before * load_##PNAME(p[i]) - move) * after);                                \
            m[i] = store_##SNAME(new_m);                                                                       \
            v[i] = store_##SNAME(new_v);                                                                       \
            n[i] = store_##SNAME(new_n);                                                                       \
            prev[i] = store_##SNAME(g);                                                                        \
        }                                                                                                      \
    }                                                                                                          \
    static void NAME##_body(const row *row, double scale, int64_t from, int64_t to, const void *data) {        \
        (void)scale;                                                                                           \
        P *p = row->tensors[0];                                                                                \
        const P *grad = row->tensors[1];                                                                       \
        S *m = row->tensors[2], *v = row->tensors[3], *n = row->tensors[4], *prev = row->tensors[5];           \
        const adan_args a = *(const adan_args *)data;                                                          \
        NAME##_loop(to - from, p + from, grad + from, m + from, v + from, n + from, prev + from, a);           \
    }                                                                                                          \
    void NAME(const team *team, const row *rows, const double *scales, int64_t count, const adan_args *args) { \
        job job = {team, rows, scales, count, 0, NAME##_body, args};                                           \
        dispatch(&job);                                                                                        \
    }

ADAN(adan_float32_float32, float, f32, float, f32, float, sqrtf)
ADAN(adan_float32_bfloat16, float, f32, bfloat16, bf16, float, sqrtf)
ADAN(adan_bfloat16_float32, bfloat16, bf16, float, f32, float, sqrtf)
ADAN(adan_bfloat16_bfloat16, bfloat16, bf16, bfloat16, bf16, float, sqrtf)
ADAN(adan_float64_float64, double, f64, double, f64, double, sqrt)

/* --- SGD-SaI (arXiv 2412.11768, algorithm 1) --- */

typedef struct {
    double momentum;
    double keep;   /* 1 - lr * weight_decay */
    double sign;   /* of the gradient */
    int64_t first; /* the momentum is the gradient */
} sai_args;

/* A row's scale is -lr * r. Without momentum the third tensor is null. */
#define SAI(NAME, P, PNAME, S, SNAME, T)                                                                       \
    static void NAME##_plain(int64_t count, P *restrict p, const P *restrict grad, T keep, T scale) {          \
        for (int64_t i = 0; i < count; i++)                                                                    \
            p[i] = store_##PNAME(keep * load_##PNAME(p[i]) + scale * load_##PNAME(grad[i]));                   \
    }                                                                                                          \
    static void NAME##_loop(int64_t count, P *restrict p, const P *restrict grad, S *restrict m, T mu, T c,    \
                            T keep, T scale) {                                                                 \
        for (int64_t i = 0; i < count; i++) {                                                                  \
            const T new_m = mu * load_##SNAME(m[i]) + c * load_##PNAME(grad[i]);                               \
            p[i] = store_##PNAME(keep * load_##PNAME(p[i]) + scale * new_m);                                   \
            m[i] = store_##SNAME(new_m);                                                                       \
        }                                                                                                      \
    }                                                                                                          \
    static void NAME##_body(const row *row, double scale, int64_t from, int64_t to, const void *data) {        \
        const sai_args *a = data;                                                                              \
        P *p = row->tensors[0];                                                                                \
        const P *grad = row->tensors[1];                                                                       \
        S *m = row->tensors[2];                                                                                \
        const T sign = a->sign, mu = a->first ? 0 : a->momentum, c = a->first ? 1 : 1 - a->momentum;           \
        if (m)                                                                                                 \
            NAME##_loop(to - from, p + from, grad + from, m + from, mu, sign * c, a->keep, scale);             \
        else                                                                                                   \
            NAME##_plain(to - from, p + from, grad + from, a->keep, sign * scale);                             \
    }                                                                                                          \
    void NAME(const team *team, const row *rows, const double *scales, int64_t count, const sai_args *args) {  \
        job job = {team, rows, scales, count, 0, NAME##_body, args};                                           \
        dispatch(&job);                                                                                        \
    }

SAI(sai_float32_float32, float, f32, float, f32, float)
SAI(sai_float32_bfloat16, float, f32, bfloat16, bf16, float)
SAI(sai_bfloat16_float32, bfloat16, bf16, float, f32, float)
SAI(sai_bfloat16_bfloat16, bfloat16, bf16, bfloat16, bf16, float)
SAI(sai_float64_float64, double, f64, double, f64, double)
