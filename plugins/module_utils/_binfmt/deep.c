/* SPDX-FileCopyrightText: The multiarch.drone authors
 * SPDX-License-Identifier: GPL-3.0-or-later
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 *
 * The program of `verify: deep`: it does what the triggers of packages do, with no library, on each platform.
 *
 *   argv: "probe", the path of this program ("" to leave `exec` out), and in its own child the word "child"
 *   standard input: an empty file that may be written; standard output: a line with the name of each step as it begins, and
 *   at last "done"; a step that fails says "NAME: what it met", and the status is 1. A step that crashes is the last one named.
 *
 * Made into deep_programs.py by tests/tools/programs.py, which says with which compiler. Numbers of system calls and layouts
 * of structures are those of Linux's uapi headers.
 */

typedef unsigned long ulong;
typedef unsigned char byte;
typedef long long wide;

/* The architectures: numbers of system calls, how to make one, and how a thread begins. */

#if defined(__x86_64__)
#define EACH(X)                                                                                                        \
	X(read, 0) X(write, 1) X(close, 3) X(lseek, 8) X(mmap, 9) X(mprotect, 10) X(munmap, 11) X(brk, 12)              \
	X(rt_sigaction, 13) X(rt_sigprocmask, 14) X(pread64, 17) X(pwrite64, 18) X(sched_yield, 24) X(mremap, 25)       \
	X(nanosleep, 35) X(setitimer, 38) X(getpid, 39) X(clone, 56) X(execve, 59) X(exit, 60) X(wait4, 61)             \
	X(ftruncate, 77) X(sigaltstack, 131) X(gettid, 186) X(futex, 202) X(getdents64, 217) X(clock_gettime, 228)      \
	X(exit_group, 231) X(tgkill, 234) X(openat, 257) X(pipe2, 293)
#define RESTORER 1
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n"
	".globl restore\nrestore: mov $15, %eax\n syscall\n"
	".globl thread\nthread: mov %rcx, %r10\n mov %rcx, %r8\n mov $56, %eax\n syscall\n test %rax, %rax\n jnz 1f\n"
	" pop %rax\n pop %rdi\n xor %ebp, %ebp\n call *%rax\n1: ret\n");
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#elif defined(__i386__)
#define EACH(X)                                                                                                        \
	X(exit, 1) X(read, 3) X(write, 4) X(close, 6) X(execve, 11) X(getpid, 20) X(brk, 45) X(munmap, 91)              \
	X(setitimer, 104) X(wait4, 114) X(clone, 120) X(mprotect, 125) X(llseek, 140) X(sched_yield, 158)               \
	X(nanosleep, 162) X(mremap, 163) X(rt_sigaction, 174) X(rt_sigprocmask, 175) X(pread64, 180) X(pwrite64, 181)   \
	X(sigaltstack, 186) X(mmap2, 192) X(ftruncate64, 194) X(getdents64, 220) X(gettid, 224) X(futex, 240)           \
	X(exit_group, 252) X(clock_gettime, 265) X(tgkill, 270) X(openat, 295) X(pipe2, 331)
#define RESTORER 1
__asm__(".globl _start\n_start: mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n call begin\n"
	".globl restore\nrestore: mov $173, %eax\n int $0x80\n"
	".globl thread\nthread: push %ebx\n push %esi\n push %edi\n mov $120, %eax\n mov 16(%esp), %ebx\n mov 20(%esp), %ecx\n"
	" mov 24(%esp), %edx\n mov 28(%esp), %esi\n mov %esi, %edi\n int $0x80\n test %eax, %eax\n jnz 1f\n"
	" pop %eax\n xor %ebp, %ebp\n call *%eax\n1: pop %edi\n pop %esi\n pop %ebx\n ret\n"
	"call: push %ebp\n push %ebx\n push %esi\n push %edi\n mov 20(%esp), %eax\n mov 24(%esp), %ebx\n mov 28(%esp), %ecx\n"
	" mov 32(%esp), %edx\n mov 36(%esp), %esi\n mov 40(%esp), %edi\n mov 44(%esp), %ebp\n int $0x80\n"
	" pop %edi\n pop %esi\n pop %ebx\n pop %ebp\n ret\n");
long call(long number, long a, long b, long c, long d, long e, long f);

#elif defined(__arm__)
#define EACH(X)                                                                                                        \
	X(exit, 1) X(read, 3) X(write, 4) X(close, 6) X(execve, 11) X(getpid, 20) X(brk, 45) X(munmap, 91)              \
	X(setitimer, 104) X(wait4, 114) X(clone, 120) X(mprotect, 125) X(llseek, 140) X(sched_yield, 158)               \
	X(nanosleep, 162) X(mremap, 163) X(rt_sigaction, 174) X(rt_sigprocmask, 175) X(pread64, 180) X(pwrite64, 181)   \
	X(sigaltstack, 186) X(mmap2, 192) X(ftruncate64, 194) X(getdents64, 217) X(gettid, 224) X(futex, 240)           \
	X(exit_group, 248) X(clock_gettime, 263) X(tgkill, 268) X(openat, 322) X(pipe2, 359)
#define PAIRS_ALIGNED 1 /* 64 bits go into two registers of which the first is even */
__asm__(".arm\n.globl _start\n_start: mov r0, sp\n bl begin\n"
	".globl thread\nthread: push {r4, r7}\n mov r4, r3\n mov r7, #120\n svc #0\n cmp r0, #0\n bne 1f\n"
	" pop {r1}\n pop {r0}\n blx r1\n1: pop {r4, r7}\n bx lr\n"
	"call: push {r4, r5, r6, r7}\n mov r7, r0\n mov r0, r1\n mov r1, r2\n mov r2, r3\n"
	" ldr r3, [sp, #16]\n ldr r4, [sp, #20]\n ldr r5, [sp, #24]\n svc #0\n pop {r4, r5, r6, r7}\n bx lr\n");
long call(long number, long a, long b, long c, long d, long e, long f);

#elif defined(__aarch64__) || defined(__riscv) || defined(__loongarch__)
#define EACH(X)                                                                                                        \
	X(pipe2, 59) X(openat, 56) X(close, 57) X(getdents64, 61) X(lseek, 62) X(read, 63) X(write, 64)                 \
	X(ftruncate, 46) X(pread64, 67) X(pwrite64, 68) X(exit, 93) X(exit_group, 94) X(futex, 98) X(nanosleep, 101)    \
	X(setitimer, 103) X(clock_gettime, 113) X(sched_yield, 124) X(tgkill, 131) X(sigaltstack, 132)                  \
	X(rt_sigaction, 134) X(rt_sigprocmask, 135) X(getpid, 172) X(gettid, 178) X(brk, 214) X(munmap, 215)            \
	X(mremap, 216) X(clone, 220) X(execve, 221) X(mmap, 222) X(mprotect, 226) X(wait4, 260)
#if defined(__aarch64__)
__asm__(".globl _start\n_start: mov x0, sp\n bl begin\n"
	".globl thread\nthread: mov x4, x3\n mov x8, #220\n svc #0\n cbnz x0, 1f\n ldp x1, x0, [sp]\n blr x1\n1: ret\n");
#define REGISTERS "x8", "x0", "x1", "x2", "x3", "x4", "x5", "svc #0"
#define CLOBBERED "memory"
#elif defined(__riscv)
#define NO_RESTORER_FIELD 1
__asm__(".globl _start\n_start: mv a0, sp\n call begin\n"
	".globl thread\nthread: mv a4, a3\n li a7, 220\n ecall\n bnez a0, 1f\n ld a1, 0(sp)\n ld a0, 8(sp)\n jalr a1\n1: ret\n");
#define REGISTERS "a7", "a0", "a1", "a2", "a3", "a4", "a5", "ecall"
#define CLOBBERED "memory"
#else
#define NO_RESTORER_FIELD 1
__asm__(".globl _start\n_start: move $a0, $sp\n bl begin\n"
	".globl thread\nthread: move $a4, $a3\n li.w $a7, 220\n syscall 0\n bnez $a0, 1f\n ld.d $a1, $sp, 0\n"
	" ld.d $a0, $sp, 8\n jirl $ra, $a1, 0\n1: jirl $zero, $ra, 0\n");
#define REGISTERS "$a7", "$a0", "$a1", "$a2", "$a3", "$a4", "$a5", "syscall 0"
#define CLOBBERED "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8", "memory"
#endif
#define CALL(N, A, B, C, D, E, F, DO)                                                                                  \
	register long n __asm__(N) = number, ra __asm__(A) = a, rb __asm__(B) = b, rc __asm__(C) = c,                   \
		      rd __asm__(D) = d, re __asm__(E) = e, rf __asm__(F) = f;                                          \
	__asm__ volatile(DO : "+r"(ra) : "r"(n), "r"(rb), "r"(rc), "r"(rd), "r"(re), "r"(rf) : CLOBBERED);              \
	return ra;
#define CALL_WITH(...) CALL(__VA_ARGS__)
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	CALL_WITH(REGISTERS)
}

#elif defined(__s390x__)
#define EACH(X)                                                                                                        \
	X(exit, 1) X(read, 3) X(write, 4) X(close, 6) X(execve, 11) X(lseek, 19) X(getpid, 20) X(brk, 45) X(mmap, 90)   \
	X(munmap, 91) X(ftruncate, 93) X(setitimer, 104) X(wait4, 114) X(clone, 120) X(mprotect, 125)                   \
	X(sched_yield, 158) X(nanosleep, 162) X(mremap, 163) X(rt_sigaction, 174) X(rt_sigprocmask, 175)                \
	X(pread64, 180) X(pwrite64, 181) X(sigaltstack, 186) X(getdents64, 220) X(gettid, 236) X(futex, 238)            \
	X(tgkill, 241) X(exit_group, 248) X(clock_gettime, 260) X(openat, 288) X(pipe2, 325)
#define MMAP_TAKES_A_BLOCK 1
__asm__(".globl _start\n_start: lgr %r2, %r15\n aghi %r15, -160\n brasl %r14, begin\n"
	".globl thread\nthread: lgr %r0, %r2\n lgr %r2, %r3\n lgr %r3, %r0\n svc 120\n ltgr %r2, %r2\n bnzr %r14\n"
	" lg %r1, 0(%r15)\n lg %r2, 8(%r15)\n aghi %r15, -160\n basr %r14, %r1\n");
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r1 __asm__("1") = number, r2 __asm__("2") = a, r3 __asm__("3") = b, r4 __asm__("4") = c,
		      r5 __asm__("5") = d, r6 __asm__("6") = e, r7 __asm__("7") = f;
	__asm__ volatile("svc 0" : "+d"(r2) : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7) : "memory");
	return r2;
}

#elif defined(__powerpc64__)
#define EACH(X)                                                                                                        \
	X(exit, 1) X(read, 3) X(write, 4) X(close, 6) X(execve, 11) X(lseek, 19) X(getpid, 20) X(brk, 45) X(mmap, 90)   \
	X(munmap, 91) X(ftruncate, 93) X(setitimer, 104) X(wait4, 114) X(clone, 120) X(mprotect, 125)                   \
	X(sched_yield, 158) X(nanosleep, 162) X(mremap, 163) X(rt_sigaction, 173) X(rt_sigprocmask, 174)                \
	X(pread64, 179) X(pwrite64, 180) X(sigaltstack, 185) X(getdents64, 202) X(gettid, 207) X(futex, 221)            \
	X(exit_group, 234) X(clock_gettime, 246) X(tgkill, 250) X(openat, 286) X(pipe2, 317)
__asm__(".globl _start\n_start: mr 3, 1\n li 0, 0\n stdu 1, -128(1)\n bcl 20, 31, 1f\n1: mflr 12\n"
	" addis 12, 12, (begin-1b)@ha\n addi 12, 12, (begin-1b)@l\n mtctr 12\n bctrl\n"
	".globl thread\nthread: mr 7, 6\n li 0, 120\n sc\n bns 1f\n neg 3, 3\n blr\n1: cmpdi 3, 0\n bnelr\n"
	" ld 12, 0(1)\n ld 3, 8(1)\n stdu 1, -128(1)\n mtctr 12\n bctrl\n");
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r0 __asm__("r0") = number, r3 __asm__("r3") = a, r4 __asm__("r4") = b, r5 __asm__("r5") = c,
		      r6 __asm__("r6") = d, r7 __asm__("r7") = e, r8 __asm__("r8") = f;
	__asm__ volatile("sc\n bns+ 1f\n neg %1, %1\n1:"
			 : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8)
			 :
			 : "r9", "r10", "r11", "r12", "cr0", "ctr", "memory");
	return r3;
}

#elif defined(__mips64)
#define EACH(X)                                                                                                        \
	X(read, 5000) X(write, 5001) X(close, 5003) X(lseek, 5008) X(mmap, 5009) X(mprotect, 5010) X(munmap, 5011)      \
	X(brk, 5012) X(rt_sigaction, 5013) X(rt_sigprocmask, 5014) X(pread64, 5016) X(pwrite64, 5017)                   \
	X(sched_yield, 5023) X(mremap, 5024) X(nanosleep, 5034) X(setitimer, 5036) X(getpid, 5038) X(clone, 5055)       \
	X(execve, 5057) X(exit, 5058) X(wait4, 5059) X(ftruncate, 5075) X(sigaltstack, 5129) X(gettid, 5178)            \
	X(futex, 5194) X(exit_group, 5205) X(clock_gettime, 5222) X(tgkill, 5225) X(openat, 5247) X(pipe2, 5287)        \
	X(getdents64, 5308)
#define MIPS 1
__asm__(".set noreorder\n.globl _start\n_start: move $4, $29\n jal begin\n nop\n"
	".globl thread\nthread: move $8, $7\n li $2, 5055\n syscall\n bnez $7, 2f\n nop\n bnez $2, 1f\n nop\n"
	" ld $25, 0($29)\n ld $4, 8($29)\n jalr $25\n nop\n2: dnegu $2, $2\n1: jr $31\n nop\n.set reorder\n");
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r2 __asm__("$2") = number, r4 __asm__("$4") = a, r5 __asm__("$5") = b, r6 __asm__("$6") = c,
		      r7 __asm__("$7") = d, r8 __asm__("$8") = e, r9 __asm__("$9") = f;
	__asm__ volatile("syscall"
			 : "+r"(r2), "+r"(r7)
			 : "r"(r4), "r"(r5), "r"(r6), "r"(r8), "r"(r9)
			 : "$1", "$3", "$10", "$11", "$12", "$13", "$14", "$15", "$24", "$25", "hi", "lo", "memory");
	return r7 ? -r2 : r2;
}
#endif

#define NUMBER(NAME, VALUE) NR_##NAME = VALUE,
enum { EACH(NUMBER) };
#define SIX(N, A, B, C, D, E, F, ...) call(N, (long)(A), (long)(B), (long)(C), (long)(D), (long)(E), (long)(F))
#define DO(NAME, ...) SIX(NR_##NAME __VA_OPT__(, ) __VA_ARGS__, 0, 0, 0, 0, 0, 0)

long thread(ulong flags, void *stack, volatile int *parent_tid, volatile int *child_tid);
void restore(void);

/* What differs between architectures in the headers of the kernel. */
#ifdef MIPS
enum { SIGUSR1 = 16, SIGCHLD = 18, SIG_UNBLOCK = 2, SA_SIGINFO = 8, MAP_ANONYMOUS = 0x800, MASK_WORDS = 2 };
#else
enum { SIGUSR1 = 10, SIGCHLD = 17, SIG_UNBLOCK = 1, SA_SIGINFO = 4, MAP_ANONYMOUS = 0x20, MASK_WORDS = 64 / (8 * sizeof(long)) };
#endif
enum { SIGSEGV = 11, SIGALRM = 14 };
enum { SA_ONSTACK = 0x08000000, SA_RESTART = 0x10000000, SA_RESTORER = 0x04000000 };
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MREMAP_MAYMOVE = 1 };
enum { EINTR = 4, EAGAIN = 11, FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_PRIVATE = 128, AT_FDCWD = -100, SEEK_SET = 0, SEEK_END = 2 };
enum {
	CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800, CLONE_VFORK = 0x4000, CLONE_THREAD = 0x10000,
	CLONE_SYSVSEM = 0x40000, CLONE_PARENT_SETTID = 0x100000, CLONE_CHILD_CLEARTID = 0x200000,
};

struct action {
#ifdef MIPS
	unsigned flags;
	void (*handler)(int, byte *, void *);
#else
	void (*handler)(int, byte *, void *);
	ulong flags;
#ifndef NO_RESTORER_FIELD
	void (*restorer)(void);
#endif
#endif
	ulong mask[MASK_WORDS];
};

struct stack {
	void *start;
#ifdef MIPS
	ulong size;
	int flags;
#else
	int flags;
	ulong size;
#endif
};

struct moment {
	long seconds, parts;
};

/* Compilers make calls of these. */
void *memset(void *target, int value, ulong size)
{
	volatile byte *to = target;
	while (size--)
		*to++ = (byte)value;
	return target;
}

void *memcpy(void *target, const void *source, ulong size)
{
	volatile byte *to = target;
	const byte *from = source;
	while (size--)
		*to++ = *from++;
	return target;
}

/* What is said. */
/* Not zero, so that it is in the file: QEMU 5.2 crashes where a segment has none of its bytes there, as compilers rarely make one. */
static const char *volatile step = "start";

static void say(const char *text)
{
	ulong length = 0;
	while (text[length])
		length++;
	DO(write, 1, text, length);
}

static void begin_step(const char *name)
{
	say(name);
	say("\n");
	step = name;
}

static void fail(const char *what, long result)
{
	char digits[8] = { 0 };
	int at = 7;
	say(step);
	say(": ");
	say(what);
	if (result < 0 && result > -4096) {
		say(", error ");
		/* No division: on 32 bits it would be a library's. */
		long rest = -result;
		do {
			volatile long quotient = 0;
			for (; rest >= 10; rest -= 10)
				quotient = quotient + 1;
			digits[--at] = (char)('0' + rest);
			rest = quotient;
		} while (rest);
		say(digits + at);
	}
	say("\n");
	DO(exit_group, 1);
	for (;;)
		;
}

#define WANT(CONDITION, WHAT)                                                                                          \
	do {                                                                                                           \
		if (!(CONDITION))                                                                                      \
			fail(WHAT, 0);                                                                                 \
	} while (0)

static long ok(long result, const char *what)
{
	if (result < 0 && result > -4096)
		fail(what, result);
	return result;
}

static int same(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/* 64 KiB is a multiple of every size that pages have. */
enum { PAGE = 0x10000, THREADS = 4, ROUNDS = 300, SIGNALS = 50, CHILDREN = 12, AREAS = 96 };

/* From 4 GiB on, offsets take more than 32 bits. */
#define FAR ((wide)0x100000000 + 5 * PAGE)

static long map(void *at, ulong size, int protection, int flags, int file, wide offset)
{
#if defined(MMAP_TAKES_A_BLOCK)
	ulong block[6] = { (ulong)at, size, (ulong)protection, (ulong)flags, (ulong)(long)file, (ulong)offset };
	return DO(mmap, block);
#elif __SIZEOF_LONG__ == 4
	return DO(mmap2, at, size, protection, flags, file, (ulong)(offset >> 12));
#else
	return DO(mmap, at, size, protection, flags, file, offset);
#endif
}

static byte *memory(ulong size)
{
	return (byte *)ok(map(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap");
}

/* Memory: what a dynamic loader, malloc and a garbage collector do. */
static void try_memory(void)
{
	byte *areas[AREAS];
	for (int i = 0; i < AREAS; i++) {
		areas[i] = memory(2 * PAGE);
		for (ulong at = 0; at < 2 * PAGE; at += 4096)
			areas[i][at] = (byte)(i + 1);
	}
	for (int i = 0; i < AREAS; i += 2)
		ok(DO(munmap, areas[i], 2 * PAGE), "munmap");
	for (int i = 1; i < AREAS; i += 2) {
		ok(DO(mprotect, areas[i], PAGE, PROT_READ), "mprotect");
		/* As a loader maps the segments of a library over the place that it reserved. */
		long fixed = map(areas[i] + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		WANT(fixed == (long)(areas[i] + PAGE), "mmap at a fixed address went elsewhere");
		WANT(areas[i][0] == i + 1 && areas[i][PAGE - 4096] == i + 1, "mapped memory changed");
		WANT(areas[i][PAGE] == 0 && areas[i][2 * PAGE - 1] == 0, "fresh memory is not zero");
	}
	byte *grown = memory(PAGE);
	grown[7] = 77;
	grown = (byte *)ok(DO(mremap, grown, PAGE, 64 * PAGE, MREMAP_MAYMOVE), "mremap");
	grown[64 * PAGE - 1] = 1;
	WANT(grown[7] == 77, "mremap lost what was there");
	ok(DO(munmap, grown, 64 * PAGE), "munmap");
	for (int i = 1; i < AREAS; i += 2)
		ok(DO(munmap, areas[i], 2 * PAGE), "munmap");
}

static void try_heap(void)
{
	ulong start = (ulong)DO(brk, 0), end = start;
	for (int i = 0; i < 64; i++) {
		ulong next = (ulong)DO(brk, end + 4 * PAGE);
		WANT(next == end + 4 * PAGE, "brk does not grow");
		for (ulong at = end; at < next; at += 4096)
			*(volatile byte *)at = (byte)(i + 1);
		end = next;
	}
	for (int i = 0; i < 64; i++)
		WANT(*(volatile byte *)(start + (ulong)i * 4 * PAGE + 4096) == i + 1, "the heap changed");
	WANT((ulong)DO(brk, start) == start, "brk does not shrink");
}

/* Signals. */
static volatile int received;
static byte *volatile guarded;

static void on_signal(int number, byte *information, void *context)
{
	(void)number, (void)information, (void)context;
	__atomic_fetch_add(&received, 1, __ATOMIC_RELAXED);
}

static void on_fault(int number, byte *information, void *context)
{
	(void)number, (void)context;
	byte *address = *(byte **)(information + (sizeof(long) == 8 ? 16 : 12));
	if (address < guarded || address >= guarded + PAGE)
		fail("the address of a fault is wrong", 0);
	ok(DO(mprotect, guarded, PAGE, PROT_READ | PROT_WRITE), "mprotect in a handler");
	received = received + 1;
}

static void handle(int number, void (*handler)(int, byte *, void *))
{
	struct action action = { .handler = handler, .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
#ifdef RESTORER
	action.flags |= SA_RESTORER;
	action.restorer = restore;
#endif
	ok(DO(rt_sigaction, number, &action, 0, sizeof action.mask), "sigaction");
	ulong mask[MASK_WORDS] = { 1UL << (number - 1) };
	ok(DO(rt_sigprocmask, SIG_UNBLOCK, mask, 0, sizeof mask), "sigprocmask");
}

static void try_signals(void)
{
	struct stack own = { .start = memory(PAGE), .size = PAGE };
	ok(DO(sigaltstack, &own, 0), "sigaltstack");
	handle(SIGUSR1, on_signal);
	received = 0;
	long self = DO(getpid), tid = DO(gettid);
	for (int i = 0; i < SIGNALS; i++)
		ok(DO(tgkill, self, tid, SIGUSR1), "tgkill");
	WANT(received == SIGNALS, "a signal got lost");
	/* As Go, Java and JavaScript do: a fault is mended by its handler, and the instruction runs again. */
	handle(SIGSEGV, on_fault);
	received = 0;
	guarded = memory(PAGE);
	for (int i = 0; i < SIGNALS; i++) {
		ok(DO(mprotect, guarded, PAGE, PROT_NONE), "mprotect");
		*(volatile byte *)(guarded + 100 + i) = (byte)i;
	}
	WANT(received == SIGNALS, "a fault got lost");
	for (int i = 0; i < SIGNALS; i++)
		WANT(guarded[100 + i] == i, "what a fault interrupted was not done");
	/* Signals at any moment, while something is computed. */
	handle(SIGALRM, on_signal);
	received = 0;
	struct moment every[2] = { { 0, 1000 }, { 0, 1000 } }, never[2] = { { 0, 0 }, { 0, 0 } };
	ok(DO(setitimer, 0, every, 0), "setitimer");
	volatile unsigned value = 1;
	while (received < 10)
		for (unsigned i = 0, expected = value; i < 1000; i++) {
			expected = expected * 1664525 + 1013904223;
			value = value * 1664525 + 1013904223;
			WANT(value == expected, "a signal changed what was computed");
		}
	ok(DO(setitimer, 0, never, 0), "setitimer");
}

/* Threads. */
static volatile int counter, gate, arrived;
static volatile int tids[THREADS];

static void wait_while(volatile int *word, int value)
{
	while (__atomic_load_n(word, __ATOMIC_RELAXED) == value) {
		long result = DO(futex, word, FUTEX_WAIT, value, 0);
		if (result != -EAGAIN && result != -EINTR)
			ok(result, "futex");
	}
}

static void work(long number)
{
	__atomic_fetch_add(&arrived, 1, __ATOMIC_RELAXED);
	wait_while(&gate, 0);
	for (int i = 0; i < ROUNDS; i++) {
		__atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED);
		if (i % 10 == 0) {
			byte *own = memory(4 * PAGE);
			for (ulong at = 0; at < 4 * PAGE; at += PAGE)
				own[at] = (byte)number;
			ok(DO(sched_yield), "sched_yield");
			for (ulong at = 0; at < 4 * PAGE; at += PAGE)
				WANT(own[at] == number, "memory of a thread changed");
			ok(DO(munmap, own, 4 * PAGE), "munmap");
		}
	}
	DO(exit, 0);
}

static void *stack_for(byte *stack, ulong size, void (*function)(long), long argument)
{
	long *top = (long *)(stack + size - 256);
	top[0] = (long)function;
	top[1] = argument;
	return top;
}

static void try_threads(void)
{
	enum { FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM };
	byte *stacks[THREADS];
	long self = DO(getpid);
	received = 0;
	for (int i = 0; i < THREADS; i++) {
		stacks[i] = memory(4 * PAGE);
		tids[i] = 0;
		long tid = ok(thread(FLAGS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
				     stack_for(stacks[i], 4 * PAGE, work, i + 1), &tids[i], &tids[i]), "clone");
		WANT(tids[i] == tid, "clone names another thread");
	}
	while (__atomic_load_n(&arrived, __ATOMIC_RELAXED) < THREADS)
		ok(DO(sched_yield), "sched_yield");
	__atomic_store_n(&gate, 1, __ATOMIC_RELAXED);
	/* A thread that waits is interrupted as well: they stop each other so. */
	for (int i = 0; i < THREADS; i++) {
		int tid = tids[i];
		if (tid)
			DO(tgkill, self, tid, SIGUSR1);
	}
	ok(DO(futex, &gate, FUTEX_WAKE, 1000), "futex");
	for (int i = 0; i < THREADS; i++) {
		int tid;
		/* The kernel clears the word and wakes who waits for it, when the thread has ended. */
		while ((tid = __atomic_load_n(&tids[i], __ATOMIC_RELAXED)))
			wait_while(&tids[i], tid);
	}
	WANT(counter == THREADS * ROUNDS, "threads lost what they counted");
	for (int i = 0; i < THREADS; i++)
		ok(DO(munmap, stacks[i], 4 * PAGE), "munmap");
}

/* Processes. */
static long fork(void)
{
#ifdef MMAP_TAKES_A_BLOCK /* s390x, which takes the stack first as well */
	return ok(DO(clone, 0, SIGCHLD), "fork");
#else
	return ok(DO(clone, SIGCHLD, 0), "fork");
#endif
}

static void reap(long pid, int expected, const char *what)
{
	int status = -1;
	long result;
	while ((result = DO(wait4, pid, &status, 0, 0)) == -EINTR)
		;
	ok(result, "wait4");
	WANT(result == pid && status == expected << 8, what);
}

static void try_processes(void)
{
	int pipe[2];
	ok(DO(pipe2, pipe, 0), "pipe2");
	volatile int mine = 1;
	long pids[CHILDREN];
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			mine = 2;
			byte block[512];
			memset(block, i + 1, sizeof block);
			DO(write, pipe[1], block, sizeof block);
			DO(exit_group, i + 1);
		}
	}
	WANT(mine == 1, "a child's memory is its parent's");
	ulong sum = 0, expected = 0, total = 0;
	byte block[512];
	for (int i = 0; i < CHILDREN; i++)
		expected += 512UL * (ulong)(i + 1);
	while (total < 512UL * CHILDREN) {
		long count = DO(read, pipe[0], block, sizeof block);
		if (count == -EINTR)
			continue;
		ok(count, "read from a pipe");
		WANT(count > 0, "a pipe ended early");
		for (long i = 0; i < count; i++)
			sum += block[i];
		total += (ulong)count;
	}
	WANT(sum == expected, "a pipe changed what went through");
	for (int i = 0; i < CHILDREN; i++)
		reap(pids[i], i + 1, "a child ended otherwise than it did");
	DO(close, pipe[0]);
	DO(close, pipe[1]);
}

static const char *own_path;

static void become_child(long unused)
{
	(void)unused;
	const char *arguments[] = { "probe", own_path, "child", "an argument", 0 }, *environment[] = { "PROBE=1", 0 };
	DO(execve, own_path, arguments, environment);
	DO(exit_group, 99);
}

static void try_exec(void)
{
	/* By fork, as shells do, and by vfork, as posix_spawn does. */
	long pid = fork();
	if (pid == 0)
		become_child(0);
	reap(pid, 42, "a program that executes itself does not run");
	byte *stack = memory(4 * PAGE);
	pid = ok(thread(CLONE_VM | CLONE_VFORK | SIGCHLD, stack_for(stack, 4 * PAGE, become_child, 0), 0, 0), "vfork");
	reap(pid, 42, "a program that executes itself by vfork does not run");
	ok(DO(munmap, stack, 4 * PAGE), "munmap");
}

static int be_child(long count, char **arguments)
{
	char **environment = arguments + count + 1;
	int right = count == 4 && same(arguments[0], "probe") && same(arguments[3], "an argument");
	return right && environment[0] && same(environment[0], "PROBE=1") && !environment[1] ? 42 : 43;
}

/* Files. */
#if __SIZEOF_LONG__ == 4
#define HALVES(VALUE) (ulong)((VALUE)&0xffffffff), (ulong)((VALUE) >> 32)
#ifdef PAIRS_ALIGNED
#define OFFSET(VALUE) 0, HALVES(VALUE)
#else
#define OFFSET(VALUE) HALVES(VALUE)
#endif
static long truncate_to(int file, wide size)
{
	return DO(ftruncate64, file, OFFSET(size));
}
static wide seek(int file, wide offset, int whence)
{
	wide result = -1;
	long failed = DO(llseek, file, (ulong)(offset >> 32), (ulong)(offset & 0xffffffff), &result, whence);
	return failed ? failed : result;
}
#else
#define OFFSET(VALUE) VALUE
static long truncate_to(int file, wide size)
{
	return DO(ftruncate, file, size);
}
static wide seek(int file, wide offset, int whence)
{
	return DO(lseek, file, offset, whence);
}
#endif

static void try_large_files(void)
{
	static const char text[] = "beyond four gigabytes", other[] = "and behind that";
	char found[sizeof text];
	/* A file system or a limit may forbid it: then the CPU's own program fails as well, and no QEMU is blamed. */
	ok(truncate_to(0, FAR + 4 * PAGE), "ftruncate");
	WANT(seek(0, 0, SEEK_END) == FAR + 4 * PAGE, "a large file has another size");
	WANT(DO(pwrite64, 0, text, sizeof text, OFFSET(FAR + 3)) == sizeof text, "pwrite");
	WANT(DO(pread64, 0, found, sizeof text, OFFSET(FAR + 3)) == sizeof text && same(text, found), "pread");
	WANT(DO(pread64, 0, found, sizeof text, OFFSET((wide)5 * PAGE + 3)) == sizeof text && !found[0], "an offset lost its upper half");
	WANT(seek(0, FAR + PAGE, SEEK_SET) == FAR + PAGE, "lseek");
	WANT(DO(write, 0, other, sizeof other) == sizeof other, "write");
	WANT(seek(0, -(wide)3 * PAGE, SEEK_END) == FAR + PAGE, "lseek from the end");
	WANT(DO(read, 0, found, sizeof other) == sizeof other && same(other, found), "read");
	/* 32-bit programs that map what is so far behind are rare, and QEMU up to 8.1 maps something else for them. */
	wide place = sizeof(long) == 8 ? FAR : 5 * PAGE;
	WANT(DO(pwrite64, 0, text, sizeof text, OFFSET(place + 3)) == sizeof text, "pwrite");
	byte *mapped = (byte *)ok(map(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, place), "mmap of a large file");
	WANT(same((char *)mapped + 3, text), "a mapped file has other content");
	mapped[0] = 'X';
	WANT(DO(pread64, 0, found, 1, OFFSET(place)) == 1 && found[0] == 'X', "what is written to a mapped file does not come into it");
	ok(DO(munmap, mapped, PAGE), "munmap");
}

static void try_directories(void)
{
	/* linux_dirent64: d_ino, d_off, d_reclen (16 bits), d_type, d_name. */
	byte entries[4096];
	int found = 0;
	long directory = ok(DO(openat, AT_FDCWD, "/proc/self", 0), "open of /proc/self"), size;
	while ((size = ok(DO(getdents64, directory, entries, sizeof entries), "getdents")) > 0)
		for (long at = 0; at < size;) {
			unsigned short length = *(unsigned short *)(entries + at + 16);
			WANT(length > 19 && at + length <= size, "getdents: an entry has a wrong length");
			found += same((char *)entries + at + 19, "maps") || same((char *)entries + at + 19, "fd");
			at += length;
		}
	WANT(found == 2, "getdents: entries are missing");
	DO(close, directory);
}

static void try_clocks(void)
{
	struct moment before = { 0, 0 }, after = { 0, 0 }, pause = { 0, 2000000 };
	ok(DO(clock_gettime, 1, &before), "clock_gettime");
	for (long result; (result = DO(nanosleep, &pause, 0)) != -EINTR && result;)
		ok(result, "nanosleep");
	ok(DO(clock_gettime, 1, &after), "clock_gettime");
	WANT(after.seconds > before.seconds || (after.seconds == before.seconds && after.parts > before.parts), "the clock stands still");
}

static void try_numbers(void)
{
	/* Two ways to one value: by what the CPU has for it, and by digits. */
	volatile wide big = 0x123456789abcdef;
	wide product = 0;
	for (int i = 0; i < 63; i++)
		if (big >> i & 1)
			product += (wide)((unsigned long long)big << i);
	WANT(product == (wide)((unsigned long long)big * (unsigned long long)big), "a product is wrong");
	volatile int shift = 17;
	WANT((big << shift) >> shift == (wide)((unsigned long long)big << 17) >> 17, "a shift is wrong");
#if !defined(__i386__) && !defined(__arm__)
	volatile double x = 2;
	for (int i = 0; i < 30; i++)
		x = (x + 2 / x) / 2;
	WANT(x > 1.41421356237309 && x < 1.41421356237310, "a root is wrong");
#endif
}

void begin(long *sp)
{
	long count = sp[0];
	char **arguments = (char **)(sp + 1);
	if (count > 2 && same(arguments[2], "child"))
		DO(exit_group, be_child(count, arguments));
	own_path = count > 1 ? arguments[1] : "";
	begin_step("numbers");
	try_numbers();
	begin_step("memory");
	try_memory();
	begin_step("heap");
	try_heap();
	begin_step("signals");
	try_signals();
	begin_step("threads");
	try_threads();
	begin_step("processes");
	try_processes();
	if (*own_path) {
		begin_step("exec");
		try_exec();
	}
	begin_step("large files");
	try_large_files();
	begin_step("directories");
	try_directories();
	begin_step("clocks");
	try_clocks();
	begin_step("done");
	DO(exit_group, 0);
	for (;;)
		;
}
