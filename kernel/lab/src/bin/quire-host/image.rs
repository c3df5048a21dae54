//! `--data-image`: a file of the host as the data disk. The disk is filled from it before the
//! commands run, and written back when they have ended; a process that dies leaves the file as it
//! was.

use std::fs::File;
use std::io::{Error, Read, Seek, SeekFrom, Write};

use arch::block::SECTOR;
use arch::simctl::data_disk;

const PAGE: usize = arch::PAGE_SIZE as usize;
const WORD: usize = 8;

/// A file of the host; what is behind its last whole page is left alone.
#[derive(Clone)]
pub(crate) struct Image {
    path: String,
    bytes: u64,
}

impl Image {
    /// The image at `path`; ends the process when there is none.
    pub(crate) fn open(path: String) -> Self {
        // Block devices are images too; their length is where they end.
        match File::open(&path).and_then(|mut file| file.seek(SeekFrom::End(0))) {
            Ok(len) => Self {
                bytes: len & !(PAGE as u64 - 1),
                path,
            },
            Err(e) => refuse(&path, &e),
        }
    }

    /// Bytes of the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The disk holds what the file holds.
    pub(crate) fn fill(&self) {
        let run = || {
            let mut file = File::open(&self.path)?;
            let mut page = [0; PAGE];
            for at in self.pages() {
                file.read_exact(&mut page)?;
                for (i, word) in words(&mut page) {
                    let value = u64::from_le_bytes(*word);
                    if value != 0 {
                        let (sector, index) = place(at, i);
                        data_disk().set_word(sector, index, value);
                    }
                }
            }
            Ok(())
        };
        run().unwrap_or_else(|e| refuse(&self.path, &e));
    }

    /// The file holds what the disk holds. Pages that are the same are not written: holes stay
    /// holes.
    pub(crate) fn keep(&self) {
        let run = || {
            let mut file = File::options().read(true).write(true).open(&self.path)?;
            let (mut page, mut old) = ([0; PAGE], [0; PAGE]);
            for at in self.pages() {
                for (i, word) in words(&mut page) {
                    let (sector, index) = place(at, i);
                    *word = data_disk().word(sector, index).to_le_bytes();
                }
                file.read_exact(&mut old)?;
                if page != old {
                    file.seek(SeekFrom::Start(at))?;
                    file.write_all(&page)?;
                }
            }
            Ok(())
        };
        run().unwrap_or_else(|e| refuse(&self.path, &e));
    }

    /// The byte where each page begins.
    fn pages(&self) -> impl Iterator<Item = u64> {
        (0..self.bytes).step_by(PAGE)
    }
}

fn words(page: &mut [u8; PAGE]) -> impl Iterator<Item = (usize, &mut [u8; WORD])> {
    page.as_chunks_mut().0.iter_mut().enumerate()
}

/// The sector of word `i` of the page at byte `at`, and its number there.
fn place(at: u64, i: usize) -> (u64, usize) {
    let per_sector = SECTOR as usize / WORD;
    (at / SECTOR + (i / per_sector) as u64, i % per_sector)
}

fn refuse(path: &str, e: &Error) -> ! {
    eprintln!("quire-host: data image '{path}': {e}");
    std::process::exit(2);
}
