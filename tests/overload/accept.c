/* A kernel that has nothing to accept a connection with.
 *
 * Stands before the C library's accept4 in the process that it is loaded into (LD_PRELOAD). The file
 * that ACCEPT_FAILURES names holds two 32-bit numbers: the error with which calls fail, 0 for none,
 * and how many calls there were that would have failed. Whoever writes to it changes the error at
 * once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int32_t *page;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ACCEPT_FAILURES");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    page = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) {
        abort();
    }
    close(file);
}

int accept4(int socket, struct sockaddr *address, socklen_t *length, int flags) {
    int32_t error = page[0];
    if (error != 0) {
        __atomic_add_fetch(&page[1], 1, __ATOMIC_RELAXED);
        errno = error;
        return -1;
    }
    return syscall(SYS_accept4, socket, address, length, flags);
}
