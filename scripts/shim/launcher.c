/* Launcher of the static shim: starts the binary that is appended to it, and leaves no file behind.
 *
 * The binary unpacks itself below TMPDIR, twice: once for staticx, once for PyInstaller. Both remove their files at a
 * normal end only. So the launcher gives them a folder of their own. It removes the folder at the end. A second
 * process, the cleaner, removes it if the launcher is killed. The cleaner also makes the folder: so there is no moment
 * in which the folder exists, and nobody would remove it.
 *
 * The file is: this program, the binary, and a trailer with a mark and the binary's size.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARK "PSHIM\0\0\1"
#define ORIGINAL "PROCESSING_SHIM_ORIGINAL_TMPDIR"
/* The unpacked files have 43 MB. */
#define NEEDED_BYTES (64ULL << 20)
/* Attempts to remove the folder, 20 ms apart: a process that was killed may still end. */
#define ATTEMPTS 250
/* The shim's guard kills the program after the shim. It has these attempts to do so before it is killed itself. */
#define GUARD "shim-guard"
#define GUARD_ATTEMPTS 25

extern char **environ;
static char folder[PATH_MAX], binary[PATH_MAX + 8];

struct trailer {
    char mark[8];
    uint64_t size;
};

/* What the cleaner sends to the launcher: the name of the folder, or why there is none. */
struct report {
    char folder[PATH_MAX], fault[PATH_MAX + 128];
};

static void fail(const char *what, const char *remedy)
{
    fprintf(stderr, "processing-shim: %s; %s\n", what, remedy);
    exit(1);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    remove(path);
    return 0;
}

static void remove_folder(void)
{
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Find the binary in this file, and return the file's descriptor. */
static int open_self(off_t *place, uint64_t *size)
{
    struct trailer end;
    struct stat info;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0)
        fail("there is no /proc", "mount it, for example with: mount -t proc proc /proc");
    if (fstat(self, &info) != 0 || pread(self, &end, sizeof end, info.st_size - sizeof end) != sizeof end ||
        memcmp(end.mark, MARK, sizeof end.mark) != 0 || end.size > (uint64_t)info.st_size)
        fail("the file is damaged", "build it again with scripts/build-shim");
    *place = info.st_size - sizeof end - end.size;
    *size = end.size;
    return self;
}

/* Write the binary to the folder, since staticx opens its own file by its path. Return whether that succeeded. */
static int write_binary(int self, off_t place, uint64_t left)
{
    int target = open(binary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    while (target >= 0 && left > 0) {
        ssize_t count = sendfile(target, self, &place, left);
        if (count <= 0)
            break;
        left -= count;
    }
    if (target >= 0)
        close(target);
    close(self);
    return target >= 0 && left == 0;
}

/* Make the folder, or say why it cannot be used. */
static void make_folder(struct report *report)
{
    const char *parent = getenv("TMPDIR");
    struct statvfs disk;
    if (parent == NULL || *parent == '\0')
        parent = "/tmp";
    snprintf(folder, sizeof folder, "%s/processing-shim-XXXXXX", parent);
    if (mkdtemp(folder) == NULL) {
        snprintf(report->fault, sizeof report->fault, "the folder %s cannot be written to (%s)", parent, strerror(errno));
        folder[0] = '\0';
        return;
    }
    memcpy(report->folder, folder, sizeof folder);
    if (statvfs(folder, &disk) != 0)
        return;
    if (disk.f_flag & ST_NOEXEC)
        snprintf(report->fault, sizeof report->fault, "the folder %s is mounted noexec", parent);
    else if ((uint64_t)disk.f_bavail * disk.f_frsize < NEEDED_BYTES)
        snprintf(report->fault, sizeof report->fault, "the folder %s has less than %llu MB of space", parent,
                 NEEDED_BYTES >> 20);
    else
        return;
    rmdir(folder);
}

/* Return whether a process is the shim's guard. */
static int is_guard(long pid)
{
    char path[64], name[32];
    snprintf(path, sizeof path, "/proc/%ld/comm", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = file < 0 ? -1 : read(file, name, sizeof name);
    if (file >= 0)
        close(file);
    return count >= (ssize_t)strlen(GUARD) && strncmp(name, GUARD, strlen(GUARD)) == 0;
}

/* Kill the processes whose program is in the folder, and return their number. */
static int kill_unpacked(int spare_guard)
{
    int killed = 0;
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    char path[64 + NAME_MAX], program[PATH_MAX];
    size_t length = strlen(folder);
    while (processes != NULL && (entry = readdir(processes)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid <= 1)
            continue;
        snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
        ssize_t count = readlink(path, program, sizeof program - 1);
        if (count > (ssize_t)length && strncmp(program, folder, length) == 0 && program[length] == '/' &&
            !(spare_guard && is_guard(pid)))
            killed += kill(pid, SIGKILL) == 0;
    }
    if (processes != NULL)
        closedir(processes);
    return killed;
}

/* Make the folder, wait until the launcher has gone, and remove the folder if it is still there. */
static void keep_clean(int launcher)
{
    char byte;
    struct report report = {0};
    struct timespec pause = {0, 20 * 1000 * 1000};
    setsid();
    for (int number = 0; number < 3; number++)
        if (number != launcher) /* the shim may have been started without these descriptors */
            close(number);
    make_folder(&report);
    send(launcher, &report, sizeof report, MSG_NOSIGNAL);
    while (read(launcher, &byte, 1) < 0 && errno == EINTR)
        ;
    int there = access(folder, F_OK) == 0;
    for (int attempt = 0; attempt < ATTEMPTS && there; attempt++) {
        int killed = kill_unpacked(attempt < GUARD_ATTEMPTS);
        remove_folder();
        nanosleep(&pause, NULL);
        /* A process that was killed may have started another one just before. */
        there = killed > 0 || access(folder, F_OK) == 0;
    }
    _exit(0);
}

/* Start the cleaner, and wait for the folder. Return the channel whose end tells the cleaner to clean up. */
static int start_cleaner(void)
{
    int channel[2];
    struct report report;
    pid_t cleaner = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == 0)
        cleaner = fork();
    if (cleaner < 0)
        return -1;
    if (cleaner == 0) {
        close(channel[1]);
        keep_clean(channel[0]);
    }
    close(channel[0]);
    if (recv(channel[1], &report, sizeof report, 0) != sizeof report)
        return -1;
    if (report.fault[0] != '\0')
        fail(report.fault, "mount a writable /tmp, or name another folder in TMPDIR");
    memcpy(folder, report.folder, sizeof folder);
    snprintf(binary, sizeof binary, "%s/shim", folder);
    return channel[1];
}

static void run_binary(int self, off_t place, uint64_t size, char **arguments, const sigset_t *mask)
{
    const char *original = getenv("TMPDIR");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!write_binary(self, place, size)) {
        fprintf(stderr, "processing-shim: %s cannot be written (%s)\n", binary, strerror(errno));
        _exit(1);
    }
    setenv(ORIGINAL, original == NULL ? "" : original, 1);
    setenv("TMPDIR", folder, 1);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execve(binary, arguments, environ);
    fprintf(stderr, "processing-shim: the shim cannot be started: %s\n", strerror(errno));
    _exit(1);
}

/* Hand signals on to the binary until it ends; return its exit code. */
static int wait_for(pid_t child, const sigset_t *signals)
{
    int status;
    for (;;) {
        int number = sigwaitinfo(signals, NULL);
        if (number > 0 && number != SIGCHLD)
            kill(child, number);
        pid_t ended;
        /* As the first process of a container, the launcher is the parent of every orphan, too. */
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            if (ended == child)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

int main(int count, char **arguments)
{
    (void)count;
    sigset_t signals, mask;
    off_t place;
    uint64_t size;
    int self = open_self(&place, &size);
    sigfillset(&signals);
    sigprocmask(SIG_BLOCK, &signals, &mask);
    int cleaner = start_cleaner();
    pid_t child = cleaner < 0 ? -1 : fork();
    if (child < 0) {
        if (cleaner >= 0)
            remove_folder();
        fail("no process can be started", "allow the container more processes");
    }
    if (child == 0)
        run_binary(self, place, size, arguments, &mask);
    close(self);
    int code = wait_for(child, &signals);
    remove_folder();
    return code;
}
