//! Everything unsafe of this crate: system calls that no library wraps.

#[cfg(test)]
pub(crate) mod calls;
pub(crate) mod clone;
pub(crate) mod descriptor;
pub(crate) mod landlock;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod title;
