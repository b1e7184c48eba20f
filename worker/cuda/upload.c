#include "worker/cuda/upload.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/cuda/kernels/convert.h"

/* One pinned buffer; two a thread, so that one fills while the other travels. Measured on an H200:
 * 12 threads keep PCIe busy where 8 just did, and pieces of 4 MiB are pinned in half the time of
 * 8 MiB, while those of 2 MiB spend more in the driver than they save. */
#define PIECE_BYTES (4ull << 20)
#define THREADS_MAX 12
#define BUFFERS     2

/* Dummy weights: small enough that activations stay finite through any depth. */
#define DUMMY_DEVIATION 0.02f

/* One tensor's way. */
typedef struct transfer {
    const void *source;
    kernel_dtype source_type, out_type;
    uint64_t elements;
    void *out;
    float add;
    float dummy_value; /* of a made-up vector */
} transfer;

typedef struct transfer_list {
    transfer *items;
    uint32_t count, capacity;
    uint8_t *base; /* NULL while sizes are being added up */
    uint64_t used;
} transfer_list;

static uint64_t element_bytes(kernel_dtype type)
{
    return type == KERNEL_F32 ? 4 : 2;
}

static kernel_dtype kernel_type_of(dtype type)
{
    switch (type) {
    case DTYPE_F16:
        return KERNEL_F16;
    case DTYPE_BF16:
        return KERNEL_BF16;
    default:
        CHECK(type == DTYPE_F32);
        return KERNEL_F32;
    }
}

/* -- where everything goes --------------------------------------------------------------- */

#define ALIGNMENT 256u

uint32_t gpu_padded(uint32_t count)
{
    return (count + GPU_PADDING - 1) / GPU_PADDING * GPU_PADDING;
}

static void add_transfer(transfer_list *list, const weight *w, uint64_t row, uint64_t rows,
                         const transfer *how)
{
    if (list->count == list->capacity) {
        list->capacity = 2 * list->capacity + 64;
        list->items = mem_realloc(list->items, list->capacity * sizeof *list->items);
    }
    transfer *t = &list->items[list->count++];
    *t = *how;
    t->source_type = kernel_type_of(w->type);
    t->source = (const uint8_t *)w->data + row * w->cols * element_bytes(t->source_type);
    t->elements = rows * w->cols;
    t->out = list->base == NULL ? NULL : list->base + list->used;
    list->used +=
        rows * (w->rows > 1 ? gpu_padded(w->cols) : w->cols) * element_bytes(how->out_type);
}

/* Place one tensor, and step over its padding. A matrix whose rows need none is one transfer. */
static void place_part(transfer_list *list, const weight *w, uint64_t padded_rows,
                       const transfer *how)
{
    uint64_t begin = list->used;
    bool is_vector = w->rows == 1;
    if (is_vector || w->cols == gpu_padded(w->cols)) {
        add_transfer(list, w, 0, w->rows, how);
    } else {
        for (uint32_t row = 0; row < w->rows; row++)
            add_transfer(list, w, row, 1, how);
    }
    uint64_t elements = is_vector ? padded_rows : padded_rows * gpu_padded(w->cols);
    list->used = begin + elements * element_bytes(how->out_type);
}

/* Place `count` tensors behind each other; NULL when the first is absent. pad_each: each gets a
 * padded number of rows (of a vector, elements), so that all of equal size are at equal distances;
 * otherwise only the last. */
static void *place(transfer_list *list, const weight *const *parts, uint32_t count, bool pad_each,
                   const transfer *how)
{
    if (parts[0]->data == NULL) return NULL;
    uint64_t begin = list->used = (list->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rows = parts[i]->rows == 1 ? parts[i]->cols : parts[i]->rows;
        place_part(list, parts[i], pad_each || i + 1 == count ? gpu_padded(rows) : rows, how);
    }
    return list->base == NULL ? NULL : list->base + begin;
}

static void *place_matrix(transfer_list *list, const weight *w, kernel_dtype type)
{
    return place(list, &w, 1, true, &(transfer){.out_type = type});
}

/* A made-up norm does nothing. */
static float *place_norm(transfer_list *list, const weight *w, float add)
{
    return place(list, &w, 1, true,
                 &(transfer){.out_type = KERNEL_F32, .add = add, .dummy_value = 1.0f});
}

static float *place_biases(transfer_list *list, const weight *const *parts, uint32_t count,
                           bool pad_each)
{
    return place(list, parts, count, pad_each, &(transfer){.out_type = KERNEL_F32});
}

static void place_layer(transfer_list *list, gpu_layer *out, const layer_weights *l,
                        kernel_dtype type, float norm_add)
{
    const transfer matrix = {.out_type = type};
    out->input_norm = place_norm(list, &l->input_norm, norm_add);
    out->qkv = place(list, (const weight *[]){&l->q, &l->k, &l->v}, 3, false, &matrix);
    out->qkv_bias =
        place_biases(list, (const weight *[]){&l->q_bias, &l->k_bias, &l->v_bias}, 3, false);
    out->q_norm = place_norm(list, &l->q_norm, norm_add);
    out->k_norm = place_norm(list, &l->k_norm, norm_add);
    out->o = place_matrix(list, &l->o, type);
    out->o_bias = place_biases(list, (const weight *[]){&l->o_bias}, 1, true);
    out->post_attention_norm = place_norm(list, &l->post_attention_norm, norm_add);
    out->mlp_norm = place_norm(list, &l->mlp_norm, norm_add);
    out->gate_up = place(list, (const weight *[]){&l->gate, &l->up}, 2, true, &matrix);
    out->gate_up_bias = place_biases(list, (const weight *[]){&l->gate_bias, &l->up_bias}, 2, true);
    out->down = place_matrix(list, &l->down, type);
    out->down_bias = place_biases(list, (const weight *[]){&l->down_bias}, 1, true);
    out->post_mlp_norm = place_norm(list, &l->post_mlp_norm, norm_add);
}

static void place_all(transfer_list *list, gpu_weights *w, const model *m)
{
    list->count = 0;
    list->used = 0;
    float norm_add = m->config.norm_plus_one ? 1.0f : 0.0f;
    w->embedding = place_matrix(list, &m->embedding, w->type);
    w->head =
        m->head.data == m->embedding.data ? w->embedding : place_matrix(list, &m->head, w->type);
    w->final_norm = place_norm(list, &m->final_norm, norm_add);
    for (uint32_t i = 0; i < m->config.layer_count; i++)
        place_layer(list, &w->layers[i], &m->layers[i], w->type, norm_add);
}

uint64_t gpu_weights_bytes(const model *m, kernel_dtype type)
{
    gpu_weights w = {.type = type};
    w.layers = mem_calloc(m->config.layer_count, sizeof *w.layers);
    transfer_list list = {0};
    place_all(&list, &w, m);
    mem_free(list.items);
    mem_free(w.layers);
    return list.used;
}

/* -- moving ------------------------------------------------------------------------------ */

typedef struct mover {
    gpu *gpu;
    const model *model;
    const transfer_list *list;
    uint64_t *piece_begin; /* [list->count + 1] pieces before each transfer */
    unsigned long long *counts;
    uint8_t *pinned;  /* [THREADS_MAX][BUFFERS][PIECE_BYTES] */
    uint8_t *staging; /* the same on the device, for what must be converted */
    _Atomic uint64_t next_piece, bytes_done;
    _Atomic int failure; /* a cudaError_t; the first */
    status read_failure; /* by the thread that set `failure`, where reading was what failed */
    error why;
    uint64_t bytes_total;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
} mover;

static uint64_t pieces_of(const transfer *t)
{
    uint64_t per_piece = PIECE_BYTES / element_bytes(t->source_type);
    return (t->elements + per_piece - 1) / per_piece;
}

static uint32_t transfer_of(const mover *m, uint64_t piece)
{
    uint32_t low = 0, high = m->list->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (m->piece_begin[middle] <= piece)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Where reading fails, that is in *read. */
static cudaError_t move_piece(mover *m, uint64_t piece, uint8_t *pinned, uint8_t *staging,
                              cudaStream_t stream, status *read, error *err)
{
    uint32_t index = transfer_of(m, piece);
    const transfer *t = &m->list->items[index];
    uint64_t per_piece = PIECE_BYTES / element_bytes(t->source_type);
    uint64_t begin = (piece - m->piece_begin[index]) * per_piece;
    uint64_t count = t->elements - begin < per_piece ? t->elements - begin : per_piece;
    uint64_t bytes = count * element_bytes(t->source_type);
    const uint8_t *source = (const uint8_t *)t->source + begin * element_bytes(t->source_type);
    uint8_t *out = (uint8_t *)t->out + begin * element_bytes(t->out_type);

    *read = model_read(m->model, source, bytes, pinned, err);
    if (*read != ST_OK) return cudaErrorUnknown;
    bool same = t->source_type == t->out_type && t->add == 0.0f;
    cudaError_t code =
        cudaMemcpyAsync(same ? out : staging, pinned, bytes, cudaMemcpyHostToDevice, stream);
    if (code == cudaSuccess && !same)
        code = convert_elements(out, t->out_type, staging, t->source_type, count, t->add, m->counts,
                                stream);
    atomic_fetch_add(&m->bytes_done, bytes);
    return code;
}

typedef struct mover_thread {
    mover *mover;
    uint32_t index;
    pthread_t thread;
} mover_thread;

static void *move_pieces(void *ctx)
{
    const mover_thread *self = ctx;
    mover *m = self->mover;
    cudaStream_t stream = NULL;
    cudaEvent_t moved[BUFFERS] = {NULL};
    cudaError_t code = cudaSetDevice(m->gpu->ordinal);
    if (code == cudaSuccess) code = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    for (uint32_t i = 0; i < BUFFERS && code == cudaSuccess; i++)
        code = cudaEventCreateWithFlags(&moved[i], cudaEventDisableTiming);

    status read = ST_OK;
    error why;
    uint64_t pieces = m->piece_begin[m->list->count];
    for (uint32_t turn = 0; code == cudaSuccess && atomic_load(&m->failure) == cudaSuccess;
         turn++) {
        uint64_t piece = atomic_fetch_add(&m->next_piece, 1);
        if (piece >= pieces) break;
        uint32_t which = turn % BUFFERS;
        uint64_t at = ((uint64_t)self->index * BUFFERS + which) * PIECE_BYTES;
        if (turn >= BUFFERS) code = cudaEventSynchronize(moved[which]);
        if (code == cudaSuccess)
            code = move_piece(m, piece, m->pinned + at, m->staging + at, stream, &read, &why);
        if (code == cudaSuccess) code = cudaEventRecord(moved[which], stream);
        if (self->index == 0 && m->progress != NULL)
            m->progress(m->progress_ctx, atomic_load(&m->bytes_done), m->bytes_total);
    }
    if (code == cudaSuccess) code = cudaStreamSynchronize(stream);
    int none = cudaSuccess;
    if (code != cudaSuccess && atomic_compare_exchange_strong(&m->failure, &none, (int)code) &&
        read != ST_OK) {
        m->read_failure = read;
        m->why = why;
    }
    for (uint32_t i = 0; i < BUFFERS; i++)
        if (moved[i] != NULL) cudaEventDestroy(moved[i]);
    if (stream != NULL) cudaStreamDestroy(stream);
    return NULL;
}

static uint32_t thread_count(uint64_t pieces)
{
    cpu_set_t cpus;
    int cores = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    uint32_t count = cores < THREADS_MAX ? (uint32_t)cores : THREADS_MAX;
    return count < pieces ? count : (uint32_t)pieces;
}

/* This thread moves too, and reports. */
static void run_threads(mover *m, uint32_t count)
{
    mover_thread threads[THREADS_MAX] = {{.mover = m}};
    uint32_t started = 1;
    for (uint32_t i = 1; i < count; i++)
        threads[i] = (mover_thread){.mover = m, .index = i};
    /* A thread that does not start leaves its share to the others. */
    while (started < count &&
           pthread_create(&threads[started].thread, NULL, move_pieces, &threads[started]) == 0)
        started++;
    move_pieces(&threads[0]);
    for (uint32_t i = 1; i < started; i++)
        pthread_join(threads[i].thread, NULL);
}

/* Pinned memory in huge pages: cudaHostAlloc's small ones take three times as long, a tenth of the
 * whole upload. */
static status pin(mover *m, uint64_t bytes, error *err)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "no %llu bytes of memory to load through",
                         (unsigned long long)bytes);
    madvise(memory, bytes, MADV_HUGEPAGE); /* a wish */
    status st =
        gpu_check(m->gpu, cudaHostRegister(memory, bytes, cudaHostRegisterPortable), err,
                  "cudaHostRegister of %llu bytes to load through", (unsigned long long)bytes);
    if (st == ST_OK)
        m->pinned = memory;
    else
        munmap(memory, bytes);
    return st;
}

static void unpin(mover *m, uint64_t bytes)
{
    if (m->pinned == NULL) return;
    cudaHostUnregister(m->pinned);
    munmap(m->pinned, bytes);
}

static status move_all(mover *m, error *err)
{
    const transfer_list *list = m->list;
    m->piece_begin = mem_calloc(list->count + 1, sizeof *m->piece_begin);
    for (uint32_t i = 0; i < list->count; i++) {
        m->piece_begin[i + 1] = m->piece_begin[i] + pieces_of(&list->items[i]);
        m->bytes_total += list->items[i].elements * element_bytes(list->items[i].source_type);
    }
    uint32_t threads = thread_count(m->piece_begin[list->count]);
    uint64_t bytes = (uint64_t)threads * BUFFERS * PIECE_BYTES;
    status st = pin(m, bytes, err);
    if (st == ST_OK)
        st = gpu_check(m->gpu, cudaMalloc((void **)&m->staging, bytes), err,
                       "cudaMalloc of %llu bytes to convert in", (unsigned long long)bytes);
    if (st == ST_OK) {
        run_threads(m, threads);
        st = m->read_failure;
        if (st != ST_OK) *err = m->why;
    }
    if (st == ST_OK)
        st = gpu_check(m->gpu, (cudaError_t)atomic_load(&m->failure), err,
                       "the copy of %llu bytes of weights", (unsigned long long)m->bytes_total);
    if (st == ST_OK && m->progress != NULL)
        m->progress(m->progress_ctx, m->bytes_total, m->bytes_total);
    unpin(m, bytes);
    if (m->staging != NULL) cudaFree(m->staging);
    mem_free(m->piece_begin);
    return st;
}

/* -- made up ------------------------------------------------------------------------------- */

static status make_up(gpu *g, const transfer_list *list, error *err)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const transfer *t = &list->items[i];
        cudaError_t code =
            t->out_type == KERNEL_F32
                ? fill_constant(t->out, t->elements, t->dummy_value, g->stream)
                : fill_random(t->out, t->out_type, t->elements, DUMMY_DEVIATION, i, g->stream);
        status st = gpu_check(g, code, err, "random weights elements=%llu",
                              (unsigned long long)t->elements);
        if (st != ST_OK) return st;
    }
    return gpu_synchronize(g, "random weights", err);
}

/* -- the door -------------------------------------------------------------------------------- */

static status read_counts(gpu *g, gpu_weights *w, const unsigned long long *counts, error *err)
{
    unsigned long long host[2];
    status st = gpu_check(g, cudaMemcpy(host, counts, sizeof host, cudaMemcpyDeviceToHost), err,
                          "cudaMemcpy of the conversion's counts");
    if (st != ST_OK) return st;
    w->overflowed = host[0];
    w->flushed = host[1];
    return ST_OK;
}

status gpu_weights_upload(gpu_weights *w, gpu *g, const model *m, kernel_dtype type,
                          void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                          error *err)
{
    *w = (gpu_weights){.type = type};
    w->layers = mem_calloc(m->config.layer_count, sizeof *w->layers);
    transfer_list list = {0};
    place_all(&list, w, m);
    w->bytes = list.used;
    unsigned long long *counts;
    status st = gpu_alloc(g, (void **)&list.base, w->bytes, "weights", err);
    if (st == ST_OK)
        st = gpu_alloc(g, (void **)&counts, 2 * sizeof *counts, "the conversion's counts", err);
    if (st == ST_OK)
        st = gpu_check(g, cudaMemset(counts, 0, 2 * sizeof *counts), err, "cudaMemset");
    /* What is padding stays zero. */
    if (st == ST_OK)
        st = gpu_check(g, cudaMemset(list.base, 0, w->bytes), err, "cudaMemset of the weights");
    if (st == ST_OK) st = gpu_synchronize(g, "clearing the weights", err);
    if (st != ST_OK) goto done;
    place_all(&list, w, m);
    if (m->is_dummy) {
        st = make_up(g, &list, err);
    } else {
        mover all = {.gpu = g,
                     .model = m,
                     .list = &list,
                     .counts = counts,
                     .progress = progress,
                     .progress_ctx = ctx};
        st = move_all(&all, err);
    }
    if (st == ST_OK) st = read_counts(g, w, counts, err);
done:
    mem_free(list.items);
    return st;
}

void gpu_weights_fini(gpu_weights *w)
{
    mem_free(w->layers);
    w->layers = NULL;
}
