//! Why an operation on an address space failed.

/// Why an operation on an address space failed; what a system call would return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmError {
    /// ENOMEM: memory is out: no frame for a page, a table or the kernel's own records, whatever
    /// was reclaimed.
    NoMemory,
    /// ENOMEM: no free range of the address space is as large.
    NoRoom,
    /// ENOMEM, ENFILE: there are as many areas, files or address spaces as there can be.
    TooMany,
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
