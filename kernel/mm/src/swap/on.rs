//! mkswap and swapon. (swapoff needs the layers above: `ops::swapoff`.)
//!
//! Locks: the swapon mutex (`Rank::SwapOn`), outside everything else. Sleeps; allocates the area's
//! tables from the heap.

use super::header::{self, Header, HeaderError};
use super::{area, cache, io};
use crate::buddy::{self, Gfp};
use crate::content::HasContent;
use crate::heap;
use crate::stats::Use;
use algo::swapmap::{Cluster, SwapMap, clusters_for};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::Pfn;
use arch::addr::PAGE_SIZE;
use arch::block::{BlockDevice, Op, SECTOR};
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use sync::{Mutex, MutexGuard, Rank};

/// Why an operation on the swap area failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapOpError {
    /// A swap area is in use already; one at a time.
    InUse,
    /// No swap area is in use.
    NotInUse,
    /// The disk is too small: it has this many pages.
    TooSmall(u64),
    /// The header is not usable.
    Header(HeaderError),
    /// The disk failed.
    Io,
    /// The area's tables do not fit into memory.
    NoRoom {
        /// Bytes that they take.
        needed: u64,
        /// Bytes that can be had.
        room: u64,
    },
    /// No memory for the tables, or (swapoff) for the pages that are on disk.
    NoMemory,
    /// Slots are in use that nothing names any more, because a rule of order is switched off.
    Lost,
}

impl fmt::Display for SwapOpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("a swap area is in use already: only one is accepted"),
            Self::NotInUse => f.write_str("no swap area is in use"),
            Self::TooSmall(n) => {
                write!(f, "the disk has {n} pages: at least {MIN_PAGES} are needed")
            }
            Self::Header(e) => e.fmt(f),
            Self::Io => f.write_str("the disk failed"),
            Self::NoRoom { needed, room } => write!(
                f,
                "the tables of an area of this size take {} kB of memory, and {} kB can be had: \
                 a smaller area is accepted (mkswap on a smaller disk)",
                needed.div_ceil(1024),
                room / 1024
            ),
            Self::NoMemory => f.write_str("not enough memory"),
            Self::Lost => f.write_str("a rule is off, and slots stay in use that nothing names"),
        }
    }
}

impl From<buddy::Oom> for SwapOpError {
    fn from(_: buddy::Oom) -> Self {
        Self::NoMemory
    }
}

/// Smallest area, with its header.
pub const MIN_PAGES: u64 = 10;

/// Serialises swapon, swapoff and mkswap.
pub(crate) static SWAPON: Mutex<()> = Mutex::new(Rank::SwapOn, ());

/// The tables of an area of `slots` slots, which are nobody's yet: dropping them gives them back.
struct Tables {
    map: Box<[AtomicU8]>,
    clusters: Box<[Cluster]>,
    cache: Vec<Vec<u32>>,
}

impl Tables {
    /// # Errors
    /// NoRoom, NoMemory; nothing is taken then.
    fn new(slots: u32) -> Result<Self, SwapOpError> {
        let clusters = clusters_for(slots);
        let of_slots = u64::from(slots) * (size_of::<AtomicU8>() as u64 + cache::BYTES_PER_SLOT);
        let needed = of_slots + (clusters * size_of::<Cluster>()) as u64;
        let room = heap::room_without_swap();
        if needed > room {
            return Err(SwapOpError::NoRoom { needed, room });
        }
        Ok(Self {
            map: boxed(slots as usize, || AtomicU8::new(0))?,
            clusters: boxed(clusters, Cluster::new)?,
            cache: cache::tables(slots).ok_or(SwapOpError::NoMemory)?,
        })
    }
}

fn boxed<T>(n: usize, make: impl FnMut() -> T) -> Result<Box<[T]>, SwapOpError> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| SwapOpError::NoMemory)?;
    v.extend(core::iter::repeat_with(make).take(n));
    Ok(v.into_boxed_slice())
}

fn disk_pages(dev: &dyn BlockDevice) -> u64 {
    dev.sectors() / (PAGE_SIZE / SECTOR)
}

/// Moves the header page between the disk and a buffer on the heap.
struct HeaderPage {
    page: buddy::Page,
    bytes: Box<header::Bytes>,
}

impl HeaderPage {
    fn new() -> Result<Self, SwapOpError> {
        let page = buddy::alloc(0, Use::Misc, Gfp::RECLAIM)?;
        let mut v: Vec<u8> = Vec::new();
        let size = PAGE_SIZE as usize;
        v.try_reserve_exact(size)
            .map_err(|_| SwapOpError::NoMemory)?;
        v.resize(size, 0);
        let bytes = v
            .into_boxed_slice()
            .try_into()
            .map_err(|_| SwapOpError::NoMemory)?;
        Ok(Self { page, bytes })
    }

    fn pfn(&self) -> Pfn {
        self.page.pfn()
    }

    fn read(&mut self, dev: &dyn BlockDevice) -> Result<(), SwapOpError> {
        io::one_page(dev, Op::Read, 0, self.pfn()).map_err(|_| SwapOpError::Io)?;
        let words = self.page.words();
        for (chunk, w) in self.bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = w.load(Ordering::Relaxed).to_le_bytes();
        }
        Ok(())
    }

    fn write(&self, dev: &dyn BlockDevice) -> Result<(), SwapOpError> {
        let words = self.page.words();
        for (chunk, w) in self.bytes.as_chunks::<8>().0.iter().zip(words) {
            w.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        io::one_page(dev, Op::Write, 0, self.pfn()).map_err(|_| SwapOpError::Io)
    }
}

/// Writes a swap header for the whole of `dev`, with `bad` pages listed.
///
/// # Errors
/// [`SwapOpError::InUse`] while any area is in use; the disk too small or failing; a bad page
/// outside.
pub fn mkswap(dev: &'static dyn BlockDevice, label: &str, bad: &[u32]) -> Result<(), SwapOpError> {
    let _one = SWAPON.lock();
    if area::device().is_some() {
        return Err(SwapOpError::InUse);
    }
    let pages = disk_pages(dev);
    if pages < MIN_PAGES {
        return Err(SwapOpError::TooSmall(pages));
    }
    let last_page = (pages.min(header::MAX_PAGES) - 1) as u32;
    let mut name = [0; header::LABEL];
    for (to, from) in name.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    let header = Header {
        last_page,
        nr_bad: bad.len() as u32,
        uuid: uuid(),
        label: name,
    };
    let mut page = HeaderPage::new()?;
    header::format(&mut page.bytes, &header, bad).map_err(SwapOpError::Header)?;
    page.write(dev)
}

/// A random-looking identity in the form of a version 4 UUID (RFC 9562); unique enough for one
/// machine.
fn uuid() -> [u8; 16] {
    let (a, b) = (
        arch::now_ns(),
        arch::cycles().wrapping_mul(0x9e37_79b9_7f4a_7c15),
    );
    let mut id = [0; 16];
    id[..8].copy_from_slice(&a.wrapping_mul(0xff51_afd7_ed55_8ccd).to_le_bytes());
    id[8..].copy_from_slice(&(a ^ b).to_le_bytes());
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// Starts swapping to `dev`, whose first page is a swap header. Returns what the header says.
///
/// # Errors
/// See [`SwapOpError`]; nothing is changed then.
pub fn swapon(dev: &'static dyn BlockDevice) -> Result<Header, SwapOpError> {
    begin(dev, &SWAPON.lock())
}

/// For the explorer, which has stopped the flusher: as [`swapon`], where nobody else is about to.
///
/// # Errors
/// As [`swapon`]; [`SwapOpError::InUse`] also where somebody is.
#[cfg(feature = "lab")]
pub(crate) fn swapon_at_once(dev: &'static dyn BlockDevice) -> Result<Header, SwapOpError> {
    begin(dev, &SWAPON.try_lock().ok_or(SwapOpError::InUse)?)
}

fn begin(dev: &'static dyn BlockDevice, _one: &MutexGuard<'_, ()>) -> Result<Header, SwapOpError> {
    if area::device().is_some() {
        return Err(SwapOpError::InUse);
    }
    let pages = disk_pages(dev);
    if pages < MIN_PAGES {
        return Err(SwapOpError::TooSmall(pages));
    }
    let mut page = HeaderPage::new()?;
    page.read(dev)?;
    let header = header::parse(&page.bytes, pages).map_err(SwapOpError::Header)?;
    let slots = header.pages();
    let tables = Tables::new(slots)?;
    let bad = core::iter::once(0).chain(header::bad_pages(&page.bytes, &header));
    let map = SwapMap::new(tables.map, tables.clusters, bad)
        .expect("the tables fit and the header was checked");
    cache::install(tables.cache);
    // Last: reclaim may hand slots out and write to them from here on.
    area::open(dev, map);
    Ok(header)
}

/// Takes the area away if it is closed and empty; false when it is not. The caller holds
/// [`SWAPON`].
pub(crate) fn close() -> bool {
    let old = area::take_away();
    if old.is_some() {
        cache::uninstall();
    }
    old.is_some()
}
