// Looks names up by the C library that it is linked with: `NAME ADDRESS…` or `NAME error CODE` on a line each.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
        int error = getaddrinfo(argv[i], NULL, &hints, &found);
        printf("%s", argv[i]);
        if (error) {
            printf(" error %d\n", error);
            continue;
        }
        for (struct addrinfo *at = found; at; at = at->ai_next) {
            char text[INET6_ADDRSTRLEN];
            void *address = at->ai_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)at->ai_addr)->sin6_addr
                                                      : (void *)&((struct sockaddr_in *)at->ai_addr)->sin_addr;
            printf(" %s", inet_ntop(at->ai_family, address, text, sizeof text));
        }
        printf("\n");
        freeaddrinfo(found);
    }
}
