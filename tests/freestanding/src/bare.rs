//! What a kernel has of its own: an entry point, memory, a panic handler, and the functions
//! that the compiler calls by name.
//!
//! All `unsafe` of the program is here.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the entry point and the exit are written for x86_64 Linux");

// The stack pointer is aligned to 16 bytes at the entry; a function wants that before its call.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

extern "C" fn main() -> ! {
    exit(crate::run())
}

fn exit(code: i32) -> ! {
    // SAFETY: exit_group (231) takes a number and does not return.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") code, options(noreturn, nostack)) }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

/// The toolchain's `alloc` was compiled to unwind and names this; with `panic = "abort"` nobody
/// calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Enough for the rings, the receive area and the queues of one interface.
const HEAP: usize = 32 << 20;

/// Memory that is given out once and never taken back.
struct Bump {
    memory: UnsafeCell<[u8; HEAP]>,
    used: AtomicUsize,
}

// SAFETY: bytes are given out once, by an atomic counter.
unsafe impl Sync for Bump {}

// SAFETY: what is returned is aligned, inside `memory`, and never returned again.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.memory.get().cast::<u8>();
        let mut place = 0;
        let taken = self.used.fetch_update(Relaxed, Relaxed, |used| {
            let address = start.addr().checked_add(used)?;
            place = used + address.wrapping_neg() % layout.align();
            place.checked_add(layout.size()).filter(|&end| end <= HEAP)
        });
        match taken {
            Ok(_) => start.wrapping_add(place),
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump { memory: UnsafeCell::new([0; HEAP]), used: AtomicUsize::new(0) };

// Written in assembly: the compiler would make a call of memcpy out of a loop that copies.

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges, and that they do not overlap.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: the start of `to` is not inside `from`, so forwards is right; the caller
        // vouches for both ranges.
        return unsafe { memcpy(to, from, len) };
    }
    let last = len.wrapping_sub(1);
    // SAFETY: the caller vouches for both ranges; backwards, each byte is read before it is
    // written. The direction flag is put back.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") len => _,
            inout("rdi") to.wrapping_add(last) => _,
            inout("rsi") from.wrapping_add(last) => _,
            options(nostack),
        );
    }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller vouches for both ranges.
        let (one, other) = unsafe { (one.add(at).read(), other.add(at).read()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: as for this function.
    unsafe { memcmp(one, other, len) }
}
