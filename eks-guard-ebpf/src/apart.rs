//! What functions that the verifier walks by themselves are handed (global functions, Linux 5.6). It walks an ordinary
//! function again for every way that leads to it, and all that follows again for every way out of it; of these it takes into
//! the caller no more than that memory may have been written and a number has come back.

use core::mem::MaybeUninit;

/// Writes memory that such a function is to fill in: it may not have it before. Word by word, because the target has no
/// `memset`.
#[inline(always)]
pub(crate) fn clear<T: Plain>(memory: &mut MaybeUninit<T>) -> *mut T {
    let words = memory.as_mut_ptr().cast::<u64>();
    for i in 0..size_of::<T>() / size_of::<u64>() {
        // SAFETY: within the memory, which is aligned for words.
        unsafe { words.add(i).write_volatile(0) };
    }
    memory.as_mut_ptr()
}

/// Whole words of eight bytes, of which zeros are a value.
///
/// # Safety
/// As it says.
pub(crate) unsafe trait Plain {}
