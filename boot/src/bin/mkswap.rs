//! Makes a sparse swap image: `mkswap FILE BYTES`. Creates or truncates FILE and writes the first
//! page of Linux's SWAPSPACE2 layout (as `mkswap -L quire` would; the kernel and Linux both accept
//! it).
//!
//! Layout of that page, little endian: at 1024 `version` (1), `last_page`, `nr_badpages`, 16 bytes
//! of UUID, 16 bytes of label; the last ten bytes are the signature. Exit status: 0, 1 (I/O), 2
//! (usage).

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

const PAGE: usize = 4096;
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";
/// Linux refuses less than ten pages.
const MIN_PAGES: u64 = 10;

/// The header page of a swap area of `pages` pages, the header included.
fn header(pages: u32, uuid: [u8; 16]) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&(pages - 1).to_le_bytes());
    page[1036..1052].copy_from_slice(&uuid);
    page[1052..1057].copy_from_slice(b"quire");
    page[PAGE - SIGNATURE.len()..].copy_from_slice(SIGNATURE);
    page
}

fn pages(bytes: &str) -> Result<u32, String> {
    let count: u64 = bytes
        .parse::<u64>()
        .map_err(|_| format!("bad size {bytes}: a number of bytes is expected"))?
        / PAGE as u64;
    match u32::try_from(count) {
        Ok(pages) if count >= MIN_PAGES => Ok(pages),
        Ok(_) => Err(format!(
            "size {bytes} is too small: at least {MIN_PAGES} pages"
        )),
        Err(_) => Err(format!("size {bytes} is too large: below 16 TiB")),
    }
}

fn write_image(path: &str, pages: u32) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&header(pages, *b"quire swap image"))?;
    file.set_len(u64::from(pages) * PAGE as u64)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, bytes] = args.as_slice() else {
        eprintln!("usage: mkswap FILE BYTES");
        return ExitCode::from(2);
    };
    match pages(bytes) {
        Err(why) => {
            eprintln!("mkswap: {why}");
            ExitCode::from(2)
        }
        Ok(pages) => match write_image(path, pages) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("mkswap: {path}: {why}");
                ExitCode::FAILURE
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_lie_where_linux_reads_them() {
        let page = header(0x1_0000, [7; 16]);
        let word = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
        assert_eq!(word(1024), 1);
        assert_eq!(word(1028), 0xffff);
        assert_eq!(word(1032), 0);
        assert_eq!(&page[4086..], SIGNATURE);
        assert!(page[..1024].iter().all(|&b| b == 0));
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(pages("40960"), Ok(10));
        assert!(pages("40959").is_err_and(|e| e.contains("too small")));
        assert!(pages("99999999999999999").is_err_and(|e| e.contains("too large")));
        assert!(pages("256M").is_err_and(|e| e.contains("bad size")));
    }
}
