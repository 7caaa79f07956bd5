/* One of the five writers of failover.py, with the C driver and a pool of clients; see writer.py for what it prints.
 *
 * c_writer URI COLLECTION; the URI names the CA (tlsCAFile). */

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static mongoc_client_pool_t *pool;
static const char *collection_name;
static volatile int ended;

static void *watch_input(void *none) {
    char buffer[64];
    (void) none;
    while (read(0, buffer, sizeof buffer) > 0) {
    }
    ended = 1;
    return NULL;
}

static void *write_one(void *argument) {
    int number = (int) (long) argument;
    static const char *const known[] = {"RetryableWriteError", "NoWritesPerformed", "TransientTransactionError"};
    bson_error_t error;
    bson_t reply;
    bson_t *thing = BCON_NEW("_id", BCON_INT32(number));
    /* One line a call: lines of several threads don't mix. */
    printf("start\t%d\n", number);
    mongoc_client_t *client = mongoc_client_pool_pop(pool);
    mongoc_collection_t *things = mongoc_client_get_collection(client, "lab", collection_name);
    if (mongoc_collection_insert_one(things, thing, NULL, &reply, &error)) {
        printf("ok\t%d\n", number);
    } else {
        char labels[128] = "";
        for (size_t n = 0; n < sizeof known / sizeof *known; n++) {
            if (mongoc_error_has_label(&reply, known[n])) {
                snprintf(labels + strlen(labels), sizeof labels - strlen(labels), "%s%s", *labels ? "," : "", known[n]);
            }
        }
        printf("error\t%d\tdomain %u\t%u\t%s\t%s\n", number, error.domain, error.code, labels, error.message);
    }
    bson_destroy(&reply);
    bson_destroy(thing);
    mongoc_collection_destroy(things);
    mongoc_client_pool_push(pool, client);
    return NULL;
}

int main(int count, char **words) {
    bson_error_t error;
    static pthread_t writes[100000];
    size_t number = 0;
    pthread_t input;
    if (count != 3) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mongoc_init();
    mongoc_uri_t *uri = mongoc_uri_new_with_error(words[1], &error);
    if (!uri || !(pool = mongoc_client_pool_new_with_error(uri, &error))) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    mongoc_client_pool_set_error_api(pool, MONGOC_ERROR_API_VERSION_2);
    collection_name = words[2];
    pthread_create(&input, NULL, watch_input, NULL);
    while (!ended && number < sizeof writes / sizeof *writes) {
        usleep(200 * 1000);
        pthread_create(&writes[number], NULL, write_one, (void *) (long) number);
        number++;
    }
    for (size_t n = 0; n < number; n++) {
        pthread_join(writes[n], NULL);
    }
    return 0;
}
