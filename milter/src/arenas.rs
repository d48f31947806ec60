//! The C library's allocator has an arena for each thread until there are eight for each processor, and each keeps the most that a message
//! ever took in it. With one for each processor the milter takes half the memory, and stops growing after a minute.

/// To be called before there are threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a C function that takes two numbers, and nothing else sets this")]
pub(crate) fn one_for_each_processor() {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // SAFETY: mallopt(3) has no conditions. Where it does not take the number, all is as before.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, i32::try_from(processors.max(2)).unwrap_or(i32::MAX)) };
}

/// Other libraries have no arenas.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn one_for_each_processor() {}
