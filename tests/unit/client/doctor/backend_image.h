/* backend_image: the bytes of a libgaggle_cuda.so that has nothing but what gaggle doctor reads. */
#ifndef GAGGLE_TESTS_BACKEND_IMAGE_H
#define GAGGLE_TESTS_BACKEND_IMAGE_H

#include "client/doctor/backend_file.h"
#include "common/mem.h"

/* `code`: entries of one container each; `libraries`: names of .dynstr, with a NUL behind each.
 * buffer_free(). */
void backend_image(buffer *out, const backend_arch *code, size_t count, const char *libraries,
                   size_t libraries_size);

#endif
