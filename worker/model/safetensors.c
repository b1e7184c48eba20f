/* safetensors: the checks that make every later read safe.
 *
 * After parse, for each tensor: end - begin is exactly the product of the dims times the element's
 * bits over 8, computed without overflow; sorted by offset the tensors follow each other without
 * hole or overlap from 0 to the file's end; names differ. So tensor.data[0 .. size) lies in the
 * file, and no byte belongs to two tensors or to none (a file cannot hide a payload). */
#include "worker/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/model/printable.h"
#include "worker/model/safetensors_header.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is used as it lies there");

#define LENGTH_BYTES 8u /* of the header length in front */

struct safetensors {
    const uint8_t *bytes;
    size_t size;
    size_t data_begin;         /* offset_bytes of the tensors' data */
    void *mapping;             /* NULL: `bytes` are the caller's */
    int fd;                    /* of what is mapped; -1 */
    safetensors_header header; /* entries sorted by offset */
    const tensor **by_name;    /* [count] */
};

const char *dtype_name(dtype type)
{
    switch (type) {
    case DTYPE_F32:
        return "F32";
    case DTYPE_F16:
        return "F16";
    case DTYPE_BF16:
        return "BF16";
    case DTYPE_OTHER:
        return "other";
    }
    return "unknown";
}

size_t dtype_size(dtype type)
{
    return type == DTYPE_F32 ? 4 : type == DTYPE_F16 || type == DTYPE_BF16 ? 2 : 0;
}

/* -- checks ------------------------------------------------------------------------- */

/* Names break ties between empty tensors, so that equal files give equal tables. */
static int compare_offsets(const void *a, const void *b)
{
    const header_entry *x = a;
    const header_entry *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name);
}

/* The bytes that dtype and shape ask for. */
static status tensor_bytes(const header_entry *entry, uint64_t *out, error *err)
{
    char text[PRINTABLE_SIZE];
    uint64_t bits = 1;
    bool overflow = false;
    for (uint32_t i = 0; i < entry->tensor.dim_count; i++)
        overflow |= __builtin_mul_overflow(bits, entry->tensor.dims[i], &bits);
    overflow |= __builtin_mul_overflow(bits, entry->bits, &bits);
    if (overflow)
        return error_set(err, ST_INVALID_ARGUMENT, "tensor %s: its shape's product overflows",
                         printable(text, entry->tensor.name));
    if (bits % 8 != 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "tensor %s: %" PRIu64 " bits of %s are not whole bytes",
                         printable(text, entry->tensor.name), bits, entry->tensor.type_name);
    *out = bits / 8;
    return ST_OK;
}

/* Every tensor begins where the one before it ends, and the last one ends with the file. */
static status place_tensors(safetensors *file, error *err)
{
    char text[PRINTABLE_SIZE];
    const size_t data_size = file->size - file->data_begin;
    uint64_t expected = 0;

    if (file->header.count > 0)
        qsort(file->header.entries, file->header.count, sizeof *file->header.entries,
              compare_offsets);
    for (size_t i = 0; i < file->header.count; i++) {
        header_entry *entry = &file->header.entries[i];
        const char *name = printable(text, entry->tensor.name);
        if (entry->end < entry->begin || entry->end > data_size)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "tensor %s: data_offsets [%" PRIu64 ", %" PRIu64
                             "] are no range within the %zu bytes of data",
                             name, entry->begin, entry->end, data_size);
        if (entry->begin != expected)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "tensor %s: expected its data at %" PRIu64
                             " (behind the tensor before it), found %" PRIu64 ": %s",
                             name, expected, entry->begin,
                             entry->begin < expected ? "an overlap" : "a hole");
        status st = tensor_bytes(entry, &entry->tensor.size, err);
        if (st != ST_OK) return st;
        if (entry->tensor.size != entry->end - entry->begin)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "tensor %s: dtype and shape need %" PRIu64
                             " bytes, data_offsets give %" PRIu64,
                             name, entry->tensor.size, entry->end - entry->begin);
        entry->tensor.data = file->bytes + file->data_begin + entry->begin;
        expected = entry->end;
    }
    if (expected != data_size)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the tensors have %" PRIu64 " bytes of data, the file has %zu", expected,
                         data_size);
    return ST_OK;
}

static int compare_tensor_names(const void *a, const void *b)
{
    return strcmp((*(const tensor *const *)a)->name, (*(const tensor *const *)b)->name);
}

static status index_names(safetensors *file, error *err)
{
    char text[PRINTABLE_SIZE];
    const size_t count = file->header.count;
    file->by_name = mem_alloc(count * sizeof *file->by_name);
    for (size_t i = 0; i < count; i++)
        file->by_name[i] = &file->header.entries[i].tensor;
    if (count > 0) qsort(file->by_name, count, sizeof *file->by_name, compare_tensor_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(file->by_name[i - 1]->name, file->by_name[i]->name) == 0)
            return error_set(err, ST_INVALID_ARGUMENT, "tensor %s stands twice in the header",
                             printable(text, file->by_name[i]->name));
    return ST_OK;
}

static status check_file(safetensors *file, error *err)
{
    uint64_t header_size;
    if (file->size < LENGTH_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "not a safetensors file: %zu bytes, less than the %u of a header length",
                         file->size, LENGTH_BYTES);
    memcpy(&header_size, file->bytes, LENGTH_BYTES);
    if (header_size > LIMIT_SAFETENSORS_HEADER_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "header length %" PRIu64 "; the limit is %u (not a safetensors file?)",
                         header_size, LIMIT_SAFETENSORS_HEADER_BYTES);
    if (header_size > file->size - LENGTH_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "header length %" PRIu64 ", but the file has only %zu bytes", header_size,
                         file->size);
    file->data_begin = LENGTH_BYTES + (size_t)header_size;

    status st = safetensors_header_scan(&file->header, (const char *)file->bytes + LENGTH_BYTES,
                                        (size_t)header_size, err);
    if (st == ST_OK) st = place_tensors(file, err);
    if (st == ST_OK) st = index_names(file, err);
    return st;
}

/* -- opening and closing -------------------------------------------------------------- */

status safetensors_parse(safetensors **out, const uint8_t *bytes, size_t size, error *err)
{
    safetensors *file = mem_calloc(1, sizeof *file);
    file->bytes = bytes;
    file->size = size;
    file->fd = -1;
    status st = check_file(file, err);
    if (st != ST_OK) {
        safetensors_close(file);
        return st;
    }
    *out = file;
    return ST_OK;
}

/* Map the whole of `path`; an empty file is mapped as NULL. On failure nothing stays open. */
static status map_file(void **mapping, size_t *size, int *fd_out, const char *path, error *err)
{
    struct stat info;
    status st = ST_OK;
    *mapping = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        st = errno == ENOENT || errno == ENOTDIR ? ST_NOT_FOUND
             : errno == EACCES                   ? ST_PERMISSION_DENIED
                                                 : ST_UNAVAILABLE;
        return error_set(err, st, "cannot open %s: %s", path, strerror(errno));
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        st = error_set(err, ST_INVALID_ARGUMENT, "%s is not a regular file", path);
    } else if (info.st_size > 0) {
        *size = (size_t)info.st_size;
        *mapping = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
        if (*mapping == MAP_FAILED) {
            *mapping = NULL;
            st = error_set(err, errno == ENOMEM ? ST_RESOURCE_EXHAUSTED : ST_UNAVAILABLE,
                           "cannot map %s (%zu bytes): %s", path, *size, strerror(errno));
        }
    }
    if (st != ST_OK) close(fd);
    *fd_out = fd;
    return st;
}

status safetensors_open(safetensors **out, const char *path, error *err)
{
    void *mapping;
    size_t size;
    int fd = -1;
    status st = map_file(&mapping, &size, &fd, path, err);
    if (st != ST_OK) return st;
    st = safetensors_parse(out, mapping, size, err);
    if (st != ST_OK) {
        if (mapping != NULL) munmap(mapping, size);
        close(fd);
        return error_prefix(err, st, "%s", path);
    }
    (*out)->mapping = mapping;
    (*out)->fd = fd;
    return ST_OK;
}

void safetensors_close(safetensors *file)
{
    if (file == NULL) return;
    safetensors_header_fini(&file->header);
    mem_free(file->by_name);
    if (file->mapping != NULL) munmap(file->mapping, file->size);
    if (file->fd >= 0) close(file->fd);
    mem_free(file);
}

/* -- reading --------------------------------------------------------------------------- */

size_t safetensors_count(const safetensors *file)
{
    return file->header.count;
}

const tensor *safetensors_at(const safetensors *file, size_t index)
{
    CHECK(index < file->header.count);
    return &file->header.entries[index].tensor;
}

static int compare_name_to_tensor(const void *name, const void *entry)
{
    return strcmp(name, (*(const tensor *const *)entry)->name);
}

const tensor *safetensors_find(const safetensors *file, const char *name)
{
    const tensor *const *found = bsearch(name, file->by_name, file->header.count,
                                         sizeof *file->by_name, compare_name_to_tensor);
    return found != NULL ? *found : NULL;
}

const uint8_t *safetensors_bytes(const safetensors *file, size_t *size, size_t *data_begin)
{
    *size = file->size;
    *data_begin = file->data_begin;
    return file->bytes;
}

bool safetensors_holds(const safetensors *file, const void *from)
{
    return (uintptr_t)from >= (uintptr_t)file->bytes &&
           (uintptr_t)from - (uintptr_t)file->bytes < file->size;
}

status safetensors_read(const safetensors *file, const void *from, size_t size, void *to,
                        error *err)
{
    size_t offset = (size_t)((const uint8_t *)from - file->bytes), done = 0;
    CHECK(file->fd >= 0 && safetensors_holds(file, from) && size <= file->size - offset);
    while (done < size) {
        ssize_t n = pread(file->fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return error_set(err, ST_UNAVAILABLE, "cannot read %zu bytes of weights at %zu: %s",
                             size - done, offset + done,
                             n < 0 ? strerror(errno) : "the file was cut short");
        done += (size_t)n;
    }
    return ST_OK;
}
