//! Linux's figures for the same shapes: 6.1.176 on the same emulator, instructions counted the same
//! way.
//!
//! "Lean" is a build without `init_on_alloc`, memory cgroups, security modules and some hardening:
//! the hardest target. The swap rows were measured with the standard build (mitigations off) only.
//!
//! What the figures contain differs in one thing: Linux's operations are system calls from user
//! mode (an empty one costs 323 instructions there), ours are calls from a kernel thread. Faults
//! are exceptions in both.

/// A figure of Linux's.
pub struct Row {
    name: &'static str,
    /// The column it comes from.
    pub column: &'static str,
    /// Tenths of an instruction per operation.
    pub tenths: u64,
}

const fn lean(name: &'static str, tenths: u64) -> Row {
    Row {
        name,
        column: "linux_lean",
        tenths,
    }
}

const ROWS: &[Row] = &[
    // anon_fault
    lean("first_touch", 27_130),
    // anon_zero_read_fault
    lean("zero_read", 11_750),
    // cow_fault, cow_reuse_fault
    lean("cow_copy", 34_200),
    lean("cow_reuse", 12_940),
    // mmap_munmap
    lean("mmap_munmap", 118_200),
    // anon_munmap_16M
    lean("munmap_page", 8_087),
    // mprotect_call
    lean("mprotect_page", 27_870),
    // (fork_16M - fork_small) / 4096 pages
    lean("fork_page", 1_362),
    // (fork_exit_wait_16M - fork_exit_wait_small) / 4096, less the fork
    lean("exit_page", 2_457),
    // mremap_move_page_pte
    lean("mremap_page", 684),
    // file_read_fault, file_write_fault, file_shared_munmap, file_private_cow: of a file in tmpfs
    lean("file_read_fault", 4_888),
    lean("file_write_fault", 20_290),
    lean("file_munmap", 4_354),
    lean("file_cow", 32_180),
    // Of the same names. Linux splits the mapping only, we split the folio as well.
    lean("thp_fault", 2_891_620),
    lean("thp_munmap", 131_270),
    lean("thp_split_mprotect", 523_800),
    lean("thp_split_munmap", 579_000),
    lean("thp_split_dontneed", 433_840),
    // swapout_cpu_16M, swapin_ra_cpu_16M, headline run
    Row {
        name: "swapout_page",
        column: "linux",
        tenths: 82_210,
    },
    Row {
        name: "swapin_page",
        column: "linux",
        tenths: 84_860,
    },
];

/// Linux's figure for bench `name`.
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|r| r.name == name)
}
