//! Why an operation on an address space failed.

/// Why an operation on an address space failed; what a system call would return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmError {
    /// ENOMEM: no frame, no object, or no room in the address space.
    NoMemory,
    /// EINVAL: an argument is malformed (alignment, empty range, unknown combination).
    Invalid,
    /// EEXIST: MAP_FIXED_NOREPLACE, and something is mapped there.
    Exists,
    /// ENOMEM of mprotect, madvise and mremap: part of the range is not mapped.
    NotMapped,
    /// EFAULT: mremap of a range that spans more than one area.
    Fault,
    /// EIO: the disk failed.
    Io,
    /// ESRCH: the OOM killer ended this address space.
    Killed,
}
