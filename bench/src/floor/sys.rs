//! System calls without wrappers: numbers in, a number out; a failure ends the program.

use std::ffi::CStr;

/// An argument.
pub trait Word {
    /// The value of the register.
    fn word(&self) -> usize;
}

impl Word for &CStr {
    fn word(&self) -> usize {
        self.as_ptr() as usize
    }
}

impl Word for usize {
    fn word(&self) -> usize {
        *self
    }
}

impl Word for i32 {
    fn word(&self) -> usize {
        *self as isize as usize
    }
}

impl Word for u64 {
    fn word(&self) -> usize {
        *self as usize
    }
}

/// The address of something, for a system call.
pub fn at<T>(place: &T) -> usize {
    std::ptr::from_ref(place) as usize
}

/// The address of something that the call writes to.
pub fn to<T>(place: &mut T) -> usize {
    std::ptr::from_mut(place) as usize
}

/// Pads the arguments to six, the most that a call can have.
pub fn six<const N: usize>(words: [usize; N]) -> [usize; 6] {
    let mut all = [0; 6];
    for (place, word) in all.iter_mut().zip(words) {
        *place = word;
    }
    all
}

/// Makes a call. Returns the result, or the negated error number.
pub fn attempt(number: libc::c_long, words: [usize; 6]) -> i32 {
    let [a, b, c, d, e, f] = words;
    // SAFETY: this program passes C strings and addresses made by `at` and `to` in the same
    // expression; all of them outlive the call.
    let done = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if done >= 0 {
        return done as i32;
    }
    -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Prints which call failed and exits. (In the child this ends the child, which the parent notices.)
pub fn failed(what: &str, result: i32) -> ! {
    eprintln!("bench_floor: {what}: {}", std::io::Error::from_raw_os_error(-result));
    // SAFETY: always safe; no destructors of the parent's copy.
    unsafe { libc::_exit(1) }
}

/// `call!(SYS_NAME, arguments…)`: makes the call and ends the program if it fails.
macro_rules! call {
    ($name:ident $(, $word:expr)* $(,)?) => {{
        let result = $crate::sys::tried!($name $(, $word)*);
        if result < 0 {
            $crate::sys::failed(stringify!($name), result);
        }
        result
    }};
}

/// As `call!`, but returns the negated error number on failure.
macro_rules! tried {
    ($name:ident $(, $word:expr)* $(,)?) => {{
        let words = $crate::sys::six([$($crate::sys::Word::word(&$word)),*]);
        $crate::sys::attempt(::libc::$name, words)
    }};
}

pub(crate) use {call, tried};
