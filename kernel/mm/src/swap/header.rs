//! The header of a swap area: the first page of the disk, in the format that `mkswap` writes and
//! `swapon` reads on Linux (version 1, magic `SWAPSPACE2`). Pure; takes no lock, never sleeps.
//!
//! All numbers are little-endian `u32`: version at byte 1024, last page, number of bad pages; then
//! a UUID and a label of 16 bytes each; from byte 1536 the bad page numbers; the magic ends the
//! page. (Format: swapon(8), mkswap(8) and Linux's description of `union swap_header`.)

use crate::pagecache;
use algo::swapmap::MAX_SLOTS;
use arch::addr::PAGE_SIZE;
use core::fmt;

const PAGE: usize = PAGE_SIZE as usize;
const MAGIC: &[u8; 10] = b"SWAPSPACE2";
const MAGIC_AT: usize = PAGE - MAGIC.len();
const VERSION_AT: usize = 1024;
const LAST_PAGE_AT: usize = 1028;
const NR_BAD_AT: usize = 1032;
const UUID_AT: usize = 1036;
const LABEL_AT: usize = 1052;
const BAD_AT: usize = 1536;

/// Bytes in a label.
pub const LABEL: usize = 16;
/// Most bad pages that a header can list.
pub const MAX_BAD: usize = (MAGIC_AT - BAD_AT) / 4;

/// Most pages of an area: a file in memory tells a slot from a frame number by one bit of a `u32`.
pub const MAX_PAGES: u64 = pagecache::tree::SLOT as u64;
const _: () = assert!(MAX_PAGES <= MAX_SLOTS as u64);

/// The bytes of a header page.
pub type Bytes = [u8; PAGE];

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Number of the area's last page, below [`MAX_PAGES`]; page 0 is the header.
    pub last_page: u32,
    /// Number of bad pages listed.
    pub nr_bad: u32,
    /// The area's identity.
    pub uuid: [u8; 16],
    /// Its name, padded with zeros.
    pub label: [u8; LABEL],
}

impl Header {
    /// Pages of the area, the header's included.
    pub fn pages(&self) -> u32 {
        self.last_page + 1
    }
}

/// Why a page is no usable header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// The page does not end in the magic.
    NoMagic,
    /// Another version than 1.
    Version(u32),
    /// The area has no page besides the header.
    Empty,
    /// The header claims more pages than the disk has.
    TooLong {
        /// Pages that the header claims.
        claimed: u64,
        /// Pages on the disk.
        disk: u64,
    },
    /// The header claims more pages than an area can have.
    TooManyPages {
        /// Pages that the header claims.
        claimed: u64,
    },
    /// More bad pages than a header can list.
    TooManyBad(u32),
    /// A listed bad page is not in the area.
    BadPage(u32),
    /// Every page besides the header is listed as bad.
    AllBad,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoMagic => write!(
                f,
                "no swap area: the first page does not end in SWAPSPACE2 (run mkswap)"
            ),
            Self::Version(v) => write!(f, "swap header version {v}: only version 1 is accepted"),
            Self::Empty => write!(
                f,
                "swap header names no page besides itself: at least one is needed"
            ),
            Self::TooLong { claimed, disk } => {
                write!(
                    f,
                    "swap header claims {claimed} pages, but the disk has {disk}"
                )
            }
            Self::TooManyPages { claimed } => {
                write!(
                    f,
                    "swap header claims {claimed} pages: at most {MAX_PAGES} are accepted"
                )
            }
            Self::TooManyBad(n) => {
                write!(
                    f,
                    "swap header lists {n} bad pages: at most {MAX_BAD} are accepted"
                )
            }
            Self::BadPage(p) => write!(
                f,
                "swap header lists bad page {p}, which is not in the area"
            ),
            Self::AllBad => write!(
                f,
                "swap header lists every page as bad: at least one good page is needed"
            ),
        }
    }
}

fn word(page: &Bytes, at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

fn put_word(page: &mut Bytes, at: usize, v: u32) {
    page[at..at + 4].copy_from_slice(&v.to_le_bytes());
}

/// Reads the header in `page` of a disk of `disk_pages` pages.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(page: &Bytes, disk_pages: u64) -> Result<Header, HeaderError> {
    if &page[MAGIC_AT..] != MAGIC {
        return Err(HeaderError::NoMagic);
    }
    let version = word(page, VERSION_AT);
    if version != 1 {
        return Err(HeaderError::Version(version));
    }
    let last_page = word(page, LAST_PAGE_AT);
    if last_page == 0 {
        return Err(HeaderError::Empty);
    }
    let claimed = u64::from(last_page) + 1;
    if claimed > disk_pages {
        return Err(HeaderError::TooLong {
            claimed,
            disk: disk_pages,
        });
    }
    if claimed > MAX_PAGES {
        return Err(HeaderError::TooManyPages { claimed });
    }
    let nr_bad = word(page, NR_BAD_AT);
    if nr_bad as usize > MAX_BAD {
        return Err(HeaderError::TooManyBad(nr_bad));
    }
    let mut header = Header {
        last_page,
        nr_bad,
        uuid: [0; 16],
        label: [0; LABEL],
    };
    if let Some(outside) = bad_pages(page, &header).find(|&p| p == 0 || p > last_page) {
        return Err(HeaderError::BadPage(outside));
    }
    // A page may be listed twice.
    let is_bad = |page_number| bad_pages(page, &header).any(|p| p == page_number);
    if last_page <= nr_bad && (1..=last_page).all(is_bad) {
        return Err(HeaderError::AllBad);
    }
    header.uuid.copy_from_slice(&page[UUID_AT..UUID_AT + 16]);
    header
        .label
        .copy_from_slice(&page[LABEL_AT..LABEL_AT + LABEL]);
    Ok(header)
}

/// The bad pages that `page`, parsed as `header`, lists.
pub fn bad_pages<'a>(page: &'a Bytes, header: &Header) -> impl Iterator<Item = u32> + 'a {
    (0..header.nr_bad as usize).map(|i| word(page, BAD_AT + 4 * i))
}

/// Writes a header with the given bad pages into `page`.
///
/// # Errors
/// What [`parse`] would find wrong with it.
pub fn format(page: &mut Bytes, header: &Header, bad: &[u32]) -> Result<(), HeaderError> {
    page.fill(0);
    if bad.len() > MAX_BAD {
        return Err(HeaderError::TooManyBad(bad.len() as u32));
    }
    put_word(page, VERSION_AT, 1);
    put_word(page, LAST_PAGE_AT, header.last_page);
    put_word(page, NR_BAD_AT, bad.len() as u32);
    page[UUID_AT..UUID_AT + 16].copy_from_slice(&header.uuid);
    page[LABEL_AT..LABEL_AT + LABEL].copy_from_slice(&header.label);
    for (i, &p) in bad.iter().enumerate() {
        put_word(page, BAD_AT + 4 * i, p);
    }
    page[MAGIC_AT..].copy_from_slice(MAGIC);
    parse(page, u64::from(header.last_page) + 1).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use algo::swapmap::{Cluster, SwapMap, clusters_for};
    use core::sync::atomic::AtomicU8;
    use proptest::prelude::*;

    const HEADER: Header = Header {
        last_page: 99,
        nr_bad: 2,
        uuid: [7; 16],
        label: *b"quire swap\0\0\0\0\0\0",
    };

    fn page() -> Bytes {
        let mut page = [0xaa; PAGE];
        format(&mut page, &HEADER, &[5, 99]).unwrap();
        page
    }

    #[test]
    fn what_is_written_is_read() {
        let page = page();
        assert_eq!(parse(&page, 100), Ok(HEADER));
        assert!(bad_pages(&page, &HEADER).eq([5, 99]));
        // Where Linux looks for them.
        assert_eq!(&page[4086..], b"SWAPSPACE2");
        assert_eq!(page[1024..1032], [1, 0, 0, 0, 99, 0, 0, 0]);
        assert_eq!(page[1536], 5);
    }

    #[test]
    fn each_fault_is_named() {
        let broken = |at: usize, v: u32| {
            let mut p = page();
            put_word(&mut p, at, v);
            parse(&p, 100).unwrap_err()
        };
        assert_eq!(broken(4092, 0), HeaderError::NoMagic);
        assert_eq!(broken(VERSION_AT, 2), HeaderError::Version(2));
        assert_eq!(broken(LAST_PAGE_AT, 0), HeaderError::Empty);
        assert_eq!(broken(NR_BAD_AT, 638), HeaderError::TooManyBad(638));
        assert_eq!(broken(BAD_AT, 0), HeaderError::BadPage(0));
        assert_eq!(broken(BAD_AT, 100), HeaderError::BadPage(100));
        assert_eq!(
            parse(&page(), 99),
            Err(HeaderError::TooLong {
                claimed: 100,
                disk: 99
            })
        );
        assert!(broken(VERSION_AT, 2).to_string().contains("version 2"));
    }

    #[test]
    fn an_area_has_a_bounded_size_and_a_good_page() {
        // On a disk that does have so many pages.
        let claims = |last_page| {
            let mut p = page();
            put_word(&mut p, LAST_PAGE_AT, last_page);
            parse(&p, 1 << 32).map(|h| h.pages())
        };
        const MOST: u32 = MAX_PAGES as u32;
        for last_page in [u32::MAX, u32::MAX - 1, MAX_SLOTS, MOST] {
            let claimed = u64::from(last_page) + 1;
            assert_eq!(
                claims(last_page),
                Err(HeaderError::TooManyPages { claimed })
            );
        }
        assert_eq!(claims(MOST - 1), Ok(MOST));
        let few = Header {
            last_page: 3,
            ..HEADER
        };
        let with = |bad: &[u32]| format(&mut [0; PAGE], &few, bad);
        assert_eq!(with(&[3, 1, 2]), Err(HeaderError::AllBad));
        assert_eq!(with(&[3, 1, 3, 1]), Ok(()));
    }

    #[test]
    fn format_refuses_what_parse_would() {
        let mut page = [0; PAGE];
        assert_eq!(
            format(&mut page, &HEADER, &[100]),
            Err(HeaderError::BadPage(100))
        );
        assert_eq!(
            format(&mut page, &HEADER, &[1; MAX_BAD + 1]),
            Err(HeaderError::TooManyBad(MAX_BAD as u32 + 1))
        );
    }

    /// Numbers as a disk may hold them: small, at a limit, or anything.
    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![
            0u32..12,
            620u32..650,
            (0u32..4).prop_map(|n| u32::MAX - n),
            any::<u32>()
        ]
    }

    /// Few cases under Miri, which is a thousand times slower.
    fn config() -> ProptestConfig {
        ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]
        #[test]
        fn what_is_accepted_makes_an_area(
            last_page in number(),
            nr_bad in number(),
            version in prop_oneof![9 => Just(1u32), 1 => any::<u32>()],
            bad in prop_oneof![
                7 => prop::collection::vec(number(), 0..20),
                1 => prop::collection::vec(number(), MAX_BAD)
            ],
            disk in prop_oneof![(0u64..700), Just(1u64 << 32), any::<u64>()],
        ) {
            let mut page = page();
            put_word(&mut page, VERSION_AT, version);
            put_word(&mut page, LAST_PAGE_AT, last_page);
            put_word(&mut page, NR_BAD_AT, nr_bad);
            for (i, &p) in bad.iter().enumerate() {
                put_word(&mut page, BAD_AT + 4 * i, p);
            }
            let Ok(header) = parse(&page, disk) else {
                return Ok(());
            };
            prop_assert!(u64::from(header.pages()) <= disk.min(MAX_PAGES));
            if header.pages() > 10_000 {
                return Ok(());
            }
            let bytes: Vec<_> = (0..header.pages()).map(|_| AtomicU8::new(0)).collect();
            let clusters: Vec<_> = (0..clusters_for(header.pages())).map(|_| Cluster::new()).collect();
            let bad = core::iter::once(0).chain(bad_pages(&page, &header));
            let map = SwapMap::new(&bytes[..], &clusters[..], bad);
            prop_assert!(map.is_ok_and(|m| m.free() > 0), "an area without a slot");
        }
    }
}
