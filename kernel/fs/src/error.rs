//! Why an operation on a volume failed.

use core::fmt;

use hadris_fat::{Error as FatError, sync::ErrorKind};
use mm::MmError;

/// Why an operation on a volume failed; its `Display` is a sentence for the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsError {
    /// There is no data disk.
    NoDisk,
    /// No size for a volume on this disk.
    BadSize,
    /// No volume is mounted, or not any more.
    NotMounted,
    /// A volume is mounted already, or somebody uses pages of the disk as a file.
    Busy,
    /// A file is open, here or in a mapping.
    Open,
    /// The disk holds no FAT file system: what its first sector lacks.
    NotFat(&'static str),
    /// The volume's clusters are smaller than a page.
    SmallClusters {
        /// Their size in bytes.
        bytes: u32,
    },
    /// The volume's clusters are larger than the crate reads.
    LargeClusters {
        /// Their size in bytes.
        bytes: u32,
    },
    /// The volume's first cluster does not begin on a page of the disk.
    Unaligned {
        /// The byte where it begins.
        at: u64,
    },
    /// The volume says that it is larger than the disk.
    Truncated {
        /// Bytes that the volume has.
        volume: u64,
        /// Bytes that the disk has.
        disk: u64,
    },
    /// The volume contradicts itself.
    Corrupt(&'static str),
    /// No such file or directory.
    NotFound,
    /// There is such a file or directory already.
    Exists,
    /// Not a file.
    IsDirectory,
    /// Not a directory.
    NotDirectory,
    /// The directory is not empty.
    NotEmpty,
    /// No name, or a path that is none.
    BadName,
    /// No free cluster, or no free entry in the root directory.
    Full,
    /// A file would be larger than 4 GiB - 1.
    TooLarge,
    /// The volume cannot be written: why.
    ReadOnly(&'static str),
    /// Source and target are one file, or the target lies in the source.
    Itself,
    /// The caller wanted it to end.
    Interrupted,
    /// The disk failed.
    Io,
    /// No memory.
    NoMemory,
    /// There are as many open files as there can be.
    TooMany,
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoDisk => "there is no data disk; --data 64M gives the machine one",
            Self::BadSize => "a volume has 1 MiB to 2 TiB, and no more than the disk",
            Self::NotMounted => "no volume is mounted; mount mounts the one on the data disk",
            Self::Busy => "the data disk is in use",
            Self::Open => "a file is open",
            Self::NotFat(what) => {
                return write!(
                    f,
                    "no FAT file system on the data disk: {what}; mkfs makes an empty one"
                );
            }
            Self::SmallClusters { bytes } => {
                return write!(
                    f,
                    "clusters of {bytes} bytes: 4096 at least are accepted (mkfs.fat -s 8)"
                );
            }
            Self::LargeClusters { bytes } => {
                return write!(
                    f,
                    "clusters of {bytes} bytes: 32768 at most are accepted (mkfs.fat -s 64)"
                );
            }
            Self::Unaligned { at } => {
                return write!(
                    f,
                    "the first cluster begins at byte {at}: a multiple of 4096 is accepted (mkfs.fat without -a)"
                );
            }
            Self::Truncated { volume, disk } => {
                return write!(
                    f,
                    "the volume has {volume} bytes and the disk only {disk}: the image is truncated"
                );
            }
            Self::Corrupt(what) => return write!(f, "the file system is damaged: {what}"),
            Self::NotFound => "no such file or directory",
            Self::Exists => "exists already",
            Self::IsDirectory => "is a directory",
            Self::NotDirectory => "not a directory",
            Self::NotEmpty => "the directory is not empty",
            Self::BadName => "not a name that FAT accepts",
            Self::Full => "no room on the volume",
            Self::TooLarge => "larger than a file on FAT can be",
            Self::ReadOnly(why) => return write!(f, "the volume is read-only: {why}"),
            Self::Itself => "cannot be copied onto or into itself",
            Self::Interrupted => "interrupted",
            Self::Io => "the disk failed",
            Self::NoMemory => "no memory",
            Self::TooMany => "too many files are open",
        };
        f.write_str(text)
    }
}

impl From<MmError> for FsError {
    fn from(e: MmError) -> Self {
        match e {
            MmError::NoMemory => Self::NoMemory,
            MmError::TooMany => Self::TooMany,
            MmError::Exists => Self::Busy,
            _ => Self::Io,
        }
    }
}

impl From<FatError> for FsError {
    fn from(e: FatError) -> Self {
        match e {
            FatError::Io(e) | FatError::IoContext { source: e, .. } => match e.kind() {
                ErrorKind::OutOfMemory => Self::NoMemory,
                ErrorKind::UnexpectedEof => Self::Corrupt("something lies beyond the disk"),
                _ => Self::Io,
            },
            FatError::InvalidBootSignature { .. } => Self::NotFat("no boot signature"),
            FatError::UnsupportedFatType(what) => Self::NotFat(what),
            FatError::InvalidFsInfoSignature { field, .. } => Self::Corrupt(field),
            FatError::ClusterOutOfBounds { .. } => Self::Corrupt("a cluster that is not there"),
            FatError::BadCluster { .. } => Self::Corrupt("a bad cluster in use"),
            FatError::UnexpectedEndOfChain { .. } => Self::Corrupt("a chain ends too early"),
            FatError::CorruptFilesystem { context } => Self::Corrupt(context),
            FatError::ClusterLoop { .. } => Self::Corrupt("a chain that loops"),
            FatError::NotAFile => Self::IsDirectory,
            FatError::NotADirectory => Self::NotDirectory,
            FatError::EntryNotFound => Self::NotFound,
            FatError::InvalidPath | FatError::InvalidFilename | FatError::InvalidShortFilename => {
                Self::BadName
            }
            FatError::NoFreeSpace | FatError::DirectoryFull => Self::Full,
            FatError::AlreadyExists => Self::Exists,
            FatError::DirectoryNotEmpty => Self::NotEmpty,
            FatError::VolumeTooSmall { .. }
            | FatError::VolumeTooLarge { .. }
            | FatError::InvalidFormatOption { .. } => Self::BadSize,
            FatError::InvalidAttributeChange { .. } => {
                Self::Corrupt("an entry that turns from a file into something else")
            }
            // Of handles that no longer fit the disk: they are looked up anew for each operation.
            FatError::StaleEntry => Self::Corrupt("a directory entry that changed"),
            FatError::WriterConflict => Self::Open,
        }
    }
}
