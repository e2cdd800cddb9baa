/* A 32-bit HTTP server without any library: `cc -m32 -static -nostdlib -ffreestanding`. It answers every read with
 * the same response. Its system calls go through the kernel's 32-bit entry, which Skep reports and does not see. */
static long call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

enum { EXIT = 1, READ = 3, WRITE = 4, CLOSE = 6, BRK = 45, SOCKET = 359, BIND = 361, LISTEN = 363, ACCEPT4 = 364, GETSOCKNAME = 367 };

struct address {
    unsigned short family, port;
    unsigned int host;
    unsigned int zero[2];
};

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

void _start(void)
{
    struct address at = {2, 0, 0x0100007f, {0, 0}};
    unsigned int len = sizeof at;
    char line[] = "listening on 127.0.0.1:00000\n", bytes[4096];
    long listener = call(SOCKET, 2, 1, 0);
    if (call(BIND, listener, (long)&at, len) < 0 || call(LISTEN, listener, 16, 0) < 0)
        call(EXIT, 1, 0, 0);
    call(GETSOCKNAME, listener, (long)&at, (long)&len);
    unsigned int port = (at.port & 0xff) << 8 | at.port >> 8;
    for (int i = 27; i > 22; i--, port /= 10)
        line[i] = '0' + port % 10;
    call(WRITE, 1, (long)line, sizeof line - 1);
    for (;;) {
        long fd, n;
        __asm__ volatile("push %%esi\n\txor %%esi, %%esi\n\tint $0x80\n\tpop %%esi"
                         : "=a"(fd) : "a"(ACCEPT4), "b"(listener), "c"(0), "d"(0) : "memory");
        while ((n = call(READ, fd, (long)bytes, sizeof bytes)) > 0)
            call(WRITE, fd, (long)ANSWER, sizeof ANSWER - 1);
        call(CLOSE, fd, 0, 0);
        /* What an allocator does now and then. */
        call(BRK, 0, 0, 0);
    }
}
