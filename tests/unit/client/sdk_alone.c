/* Goal: a program that has only gaggle.h and libgaggle (archive or shared object) builds and runs,
 * with every name the header promises, and none of ours in its way.
 * Method: it is strict C11, includes nothing else of the tree, and owns names that we use inside.
 */
#include <stdio.h>
#include <string.h>

#include "gaggle.h"

/* Names of our layers, here with other meanings. */
int envelope_decode = 1;
int mem_alloc = 2;
int session_send = 3;

int main(void)
{
    static const char *const urls[] = {"tcp://127.0.0.1:1"};
    gaggle_options options = {.urls = urls, .url_count = 1, .offline_ms = 50};
    gaggle_client *client;
    gaggle_error err;
    if (gaggle_client_create(&client, &options, &err) != GAGGLE_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    gaggle_request request = {.text = "Hello", .sampling = {.has_temperature = true}};
    gaggle_stream *stream;
    if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) return 2;
    char id[33];
    gaggle_stream_id(stream, id);
    if (strlen(id) != 32 || gaggle_stream_seed(stream) == 0) return 3;
    gaggle_event event;
    if (gaggle_stream_next(stream, -1, &event) != GAGGLE_OK) return 4;
    if (event.type != GAGGLE_FINISH || event.error->code != GAGGLE_UNAVAILABLE) return 5;
    gaggle_cancel(stream);
    gaggle_stream_close(stream);
    gaggle_report *report = NULL;
    if (gaggle_query_wait(&report, client, 50, NULL) != GAGGLE_UNAVAILABLE) return 6;
    gaggle_report_free(report);
    gaggle_client_destroy(client);
    if (strcmp(gaggle_code_name(GAGGLE_UNAVAILABLE), "UNAVAILABLE") != 0) return 7;
    if (strcmp(gaggle_finish_reason_name(event.reason), "failed") != 0) return 8;
    printf("libgaggle %s\n", gaggle_version());
    return envelope_decode + mem_alloc + session_send == 6 ? 0 : 9;
}
