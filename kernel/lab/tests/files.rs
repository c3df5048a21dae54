//! The commands for files on images that somebody else had: damaged ones, names that steer a
//! terminal, disks that fail.

use std::path::PathBuf;
use std::process::Command;

/// An image of 2 MiB with an empty volume, removed at the end.
struct Image(PathBuf);

impl Drop for Image {
    fn drop(&mut self) {
        // A leftover is no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Image {
    #[track_caller]
    fn new(name: &str, commands: &str) -> Self {
        let name = format!("quire-files-{}-{name}.img", std::process::id());
        let image = Self(std::env::temp_dir().join(name));
        std::fs::write(&image.0, vec![0; 2 << 20]).expect("the image can be made");
        let (status, text) = image.run(&format!("mkfs; mount; {commands}; umount"));
        assert_eq!(status, 0, "{text}");
        image
    }

    fn run(&self, commands: &str) -> (i32, String) {
        let run = Command::new(env!("CARGO_BIN_EXE_quire-host"))
            .arg("--data-image")
            .arg(&self.0)
            .args(["--exec", commands])
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("the program was built with this test");
        let text = [run.stdout, run.stderr];
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (run.status.code().unwrap_or(-1), text.concat())
    }

    /// Runs commands, which end with `status`; what they say has all these parts.
    #[track_caller]
    fn says(&self, commands: &str, status: i32, parts: &[&str]) -> String {
        let (found, text) = self.run(commands);
        let all = parts.iter().all(|part| text.contains(part));
        assert!(found == status && all, "status {found}:\n{text}");
        text
    }

    /// Changes the bytes behind each place where the image has `old`, from `behind` bytes on.
    #[track_caller]
    fn patch(&self, old: &[u8], behind: usize, new: &[u8]) {
        let mut bytes = std::fs::read(&self.0).expect("the image can be read");
        let places: Vec<usize> = bytes
            .windows(old.len())
            .enumerate()
            .filter(|(_, w)| *w == old)
            .map(|(i, _)| i)
            .collect();
        assert!(!places.is_empty(), "the image has no {old:?}");
        for at in places {
            bytes[at + behind..at + behind + new.len()].copy_from_slice(new);
        }
        std::fs::write(&self.0, bytes).expect("the image can be written");
    }
}

/// Sets what the first table says of the first clusters, from 2 on. Of FAT12, as the volume of an
/// [`Image`] is; the table begins behind the first page.
fn set_table(image: &Image, entries: &[u16]) {
    let mut bytes = std::fs::read(&image.0).expect("the image can be read");
    for (n, entry) in (2..).zip(entries) {
        let at = 4096 + n + n / 2;
        let shift = n % 2 * 4;
        let both = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let both = both & !(0xfff << shift) | entry << shift;
        bytes[at..at + 2].copy_from_slice(&both.to_le_bytes());
    }
    std::fs::write(&image.0, bytes).expect("the image can be written");
}

const FIRST: usize = 26;
const SIZE: usize = 28;

#[test]
fn a_mount_says_what_it_mends() {
    let image = Image::new("mends", "write /A text; write /B text");
    image.patch(b"A          ", SIZE, &9000_u32.to_le_bytes());
    image.patch(b"B          ", SIZE, &0_u32.to_le_bytes());
    image.says(
        "mount; ls; umount",
        0,
        &[
            "/A: 9000 bytes long, but has clusters for 4096 only: mended\n",
            "/B: clusters behind its end: mended\n",
            "4096 A\n",
            "0 B\n",
        ],
    );
    let text = image.says("mount; ls", 0, &["4096 A\n"]);
    assert!(!text.contains("mended"), "{text}");
}

#[test]
fn clusters_of_two_files_make_a_volume_read_only() {
    let image = Image::new("shared", "write /A text; write /B text");
    image.patch(b"B          ", FIRST, &2_u16.to_le_bytes());
    image.says(
        "mount; cat /A; write /C x",
        1,
        &[
            "read-only: it is damaged",
            "damaged: a cluster that is another's too\n",
            "text\n",
            "/C: the volume is read-only: it is damaged\n",
        ],
    );
}

#[test]
fn what_another_file_has_is_not_freed_with_a_chain_that_is_too_long() {
    let image = Image::new("joined", "write /A text; write /B more");
    // The chain of B leads on to A.
    set_table(&image, &[0xfff, 2]);
    let said = "/B: clusters behind its end: mended\n";
    image.says("mount; write /C other; umount", 0, &[said]);
    let text = image.says("mount; cat /A; cat /B; cat /C", 0, &["text\nmore\nother\n"]);
    assert!(!text.contains("/A"), "{text}");
}

/// What is in a directory that cannot be read to its end has clusters of which a mount does not
/// know.
#[test]
fn a_directory_that_breaks_off_makes_a_volume_read_only() {
    let image = Image::new("broken", "mkdir /D; write /D/F text; write /X more");
    // The directory's chain has a bad cluster; behind the end of X is F.
    set_table(&image, &[0xff7, 0xfff, 3]);
    image.says(
        "mount; write /Y other; cat /D/F; cat /X",
        1,
        &[
            "read-only: it is damaged",
            "/D: damaged: a bad cluster in use\n",
            "/Y: the volume is read-only: it is damaged\n",
            "\ntext\n",
            "\nmore\n",
        ],
    );
}

/// The entry of a file is found by its short name.
#[test]
fn two_entries_of_one_name_make_a_volume_read_only() {
    let image = Image::new("twice", "write /A kept; write /B other");
    image.patch(b"B          ", 0, b"A");
    image.says(
        "mount; write /A lost; cat /A; rm /A",
        1,
        &[
            "read-only: it is damaged",
            "/A: damaged: two entries of this name\n",
            "/A: the volume is read-only: it is damaged\nkept\n",
        ],
    );
}

#[test]
fn nothing_is_copied_onto_or_into_itself() {
    let image = Image::new(
        "itself",
        "mkdir /d; write /d/f text; write /a kept; mkdir /e",
    );
    let refused = "cannot be copied onto or into itself\n";
    for copy in [
        "/d /D/x",
        ". /x",
        "/ /e/x",
        "/a /A",
        "/d/f /./D/F",
        "/d //d/",
        "/d /e/../d/x",
    ] {
        let (status, text) = image.run(&format!("mount; cp {copy}; cat /a; ls /d; umount"));
        let right = text.contains(refused) || copy.contains("..") && text.contains("not a name");
        assert!(
            status == 1 && right && text.contains("kept\n"),
            "{copy}: {text}"
        );
        assert!(text.ends_with("         5 f\n"), "{copy}: {text}");
    }
    image.says("mount; cp /d /e/x; cat /e/X/F; umount", 0, &["text\n"]);
}

#[test]
fn a_directory_that_contains_itself_is_damage() {
    let image = Image::new(
        "loop",
        "mkdir /D; mkdir /D/E; write /D/E/F text; mkdir /G; write /G/H more",
    );
    // D is the first cluster.
    image.patch(b"E          ", FIRST, &2_u16.to_le_bytes());
    let damage = "the file system is damaged: a directory that contains itself, or is in two\n";
    let text = image.says(
        "mount; cksum",
        1,
        &["read-only: it is damaged", damage, " 5 /G/H\n"],
    );
    assert_eq!(text.matches(damage).count(), 1, "{text}");
    image.says("mount; cksum /D/E/E/E", 1, &[damage]);
}

#[test]
fn a_tree_may_be_deep() {
    let paths: Vec<String> = (1..=80).map(|n| "/d".repeat(n)).collect();
    let make: Vec<String> = paths.iter().map(|path| format!("mkdir {path}")).collect();
    let deep = &paths[79];
    let image = Image::new("deep", &format!("{}; write {deep}/f text", make.join("; ")));
    let file = format!(" 5 {deep}/f\n");
    image.says("mount; cksum", 0, &[&file]);
    image.says(
        &format!("mount; cp /d /copy; cksum /copy{}; umount", &deep[2..]),
        0,
        &[" 5 /copy/d/d"],
    );
}

#[test]
fn names_do_not_steer_the_terminal() {
    let image = Image::new("names", "write '/a long name' text");
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    image.patch(&utf16("a lon"), 2, &utf16("\u{1b}"));
    image.patch(&utf16("a\u{1b}lon"), 6, &utf16("\n"));
    let text = image.says(
        "mount; ls; cksum",
        0,
        &["5 a\\u{1b}l\\nn", "/a\\u{1b}l\\nn"],
    );
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn large_clusters_are_refused_with_the_reason() {
    let image = Image::new("large", "ls");
    // Sectors of 4096 bytes, 16 in a cluster.
    image.patch(&[0x00, 0x10, 0x01], 2, &[16]);
    image.says(
        "mount",
        1,
        &["clusters of 65536 bytes: 32768 at most are accepted"],
    );
}

#[test]
fn a_disk_that_fails_for_ever_can_be_unmounted() {
    let image = Image::new("fails", "write /A kept");
    image.says(
        "mount; write /B lost; write '/a \u{1b}name' x; fault-inject data write; umount; umount; umount --force;
         fault-inject data clear; mount; ls; cat /A; umount",
        1,
        &[
            "the disk failed; 'umount --force' gives up what is not written\n",
            "the disk failed: what was not written yet is lost\n",
            "/B: as it was last synced\n",
            "kept\n",
        ],
    );
    image.says("umount --farce", 2, &["accepted: --force"]);
}

/// A directory's cluster that could not be written is a file's then, and what waits to be written
/// of the directory is not.
#[test]
fn a_cluster_has_one_cache_at_a_time() {
    let image = Image::new(
        "sides",
        "write /fill x; truncate /fill 2012K; write /f text",
    );
    let text = image.says(
        "mount; fault-inject data write; mkdir /d; fault-inject data clear; truncate /f 8K; sync; umount; mount; cat /f",
        1,
        &["/d: the disk failed\n", "\ntext\n....."],
    );
    // The directory's first names are filled up with spaces.
    assert!(!text.contains("     "), "{text}");
}

/// Its writes go well, and only the flushes fail: what was written may be in the disk's cache.
#[test]
fn what_was_written_and_not_flushed_is_lost() {
    let image = Image::new("flush", "write /A kept; write /B kept");
    let text = image.says(
        "mount; cat /B; fault-inject data flush; write /A lost; umount; umount --force",
        1,
        &[
            "the disk failed: what was not written yet is lost\n",
            "/A: as it was last synced\n",
        ],
    );
    assert!(!text.contains("/B:"), "{text}");
    let text = image.says(
        "mount; cat /A; fault-inject data flush; umount --force",
        0,
        &["lost\n"],
    );
    assert!(
        !text.contains("/A:") && !text.contains("directories:"),
        "{text}"
    );
}

#[test]
fn text_may_look_like_an_option() {
    let image = Image::new("text", "write /a -h; write -- /b --help");
    image.says("mount; cat /a; cat /b", 0, &["-h\n--help\n"]);
}
