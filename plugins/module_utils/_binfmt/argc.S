/* SPDX-FileCopyrightText: The multiarch.drone authors
 * SPDX-License-Identifier: GPL-3.0-or-later
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 *
 * The code of the argc programs in elf.py, on each platform the same:
 *
 *     long saved = *sp; read(0, sp, 1); exit(saved);
 *
 * tests/tools/programs.py assembles it, and a test holds elf.py to the result, byte for byte.
 */

#if defined(__x86_64__)
	mov (%rsp), %ebx
	xor %eax, %eax /* read */
	xor %edi, %edi
	mov %rsp, %rsi
	mov $1, %edx
	syscall
	mov %ebx, %edi
	mov $60, %eax /* exit */
	syscall

#elif defined(__aarch64__)
	ldr x19, [sp]
	mov x0, #0
	mov x1, sp
	mov x2, #1
	mov x8, #63 /* read */
	svc #0
	mov x0, x19
	mov x8, #93 /* exit */
	svc #0

#elif defined(__arm__)
	.arm
	ldr r4, [sp]
	mov r0, #0
	mov r1, sp
	mov r2, #1
	mov r7, #3 /* read */
	svc #0
	mov r0, r4
	mov r7, #1 /* exit */
	svc #0

#elif defined(__riscv)
	.option norvc
	ld s0, 0(sp)
	li a0, 0
	mv a1, sp
	li a2, 1
	li a7, 63 /* read */
	ecall
	mv a0, s0
	li a7, 93 /* exit */
	ecall

#elif defined(__s390x__)
	lg %r6, 0(%r15)
	lghi %r2, 0
	lgr %r3, %r15
	lghi %r4, 1
	svc 3 /* read */
	lgr %r2, %r6
	svc 1 /* exit */

#elif defined(__powerpc64__)
	ld 14, 0(1)
	li 3, 0
	mr 4, 1
	li 5, 1
	li 0, 3 /* read */
	sc
	mr 3, 14
	li 0, 1 /* exit */
	sc

#elif defined(__i386__)
	mov (%esp), %esi
	mov $3, %eax /* read */
	xor %ebx, %ebx
	mov %esp, %ecx
	mov $1, %edx
	int $0x80
	mov %esi, %ebx
	mov $1, %eax /* exit */
	int $0x80

#elif defined(__mips64)
	.set noreorder
	ld $16, 0($29)
	daddiu $4, $0, 0
	or $5, $29, $0
	daddiu $6, $0, 1
	daddiu $2, $0, 5000 /* read */
	syscall
	or $4, $16, $0
	daddiu $2, $0, 5058 /* exit */
	syscall

#elif defined(__loongarch__)
	ld.d $s0, $sp, 0
	move $a0, $zero
	move $a1, $sp
	ori $a2, $zero, 1
	ori $a7, $zero, 63 /* read */
	syscall 0
	move $a0, $s0
	ori $a7, $zero, 93 /* exit */
	syscall 0
#endif
