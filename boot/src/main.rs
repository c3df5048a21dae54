//! Turns a kernel ELF into a bootable disk image: `boot KERNEL_ELF OUT.img [--uefi]`.
//!
//! A host program, not a build script of the kernel: `run-qemu.sh` strips the ELF first, and only
//! the image asked for is made. Exit status: 0 done, 1 the image could not be written, 2 wrong
//! usage.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootloader::{BiosBoot, BootConfig, UefiBoot};

const USAGE: &str = "usage: boot KERNEL_ELF OUT.img [--uefi]";

struct Args {
    kernel: PathBuf,
    out: PathBuf,
    uefi: bool,
}

fn parse(args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut paths = Vec::new();
    let mut uefi = false;
    for arg in args {
        match arg.as_str() {
            "--uefi" => uefi = true,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            path => paths.push(PathBuf::from(path)),
        }
    }
    match <[PathBuf; 2]>::try_from(paths) {
        Ok([kernel, out]) => Ok(Args { kernel, out, uefi }),
        Err(paths) => Err(format!("expected two paths, got {}", paths.len())),
    }
}

/// The boot stages print to the serial port too; the less they print, the sooner the kernel runs.
fn quiet() -> BootConfig {
    let mut config = BootConfig::default();
    config.frame_buffer_logging = false;
    config.serial_logging = false;
    config
}

fn write_image(kernel: &Path, out: &Path, uefi: bool) -> Result<(), String> {
    if !kernel.is_file() {
        return Err(format!("kernel {} does not exist", kernel.display()));
    }
    let written = if uefi {
        UefiBoot::new(kernel)
            .set_boot_config(&quiet())
            .create_disk_image(out)
    } else {
        BiosBoot::new(kernel)
            .set_boot_config(&quiet())
            .create_disk_image(out)
    };
    written.map_err(|e| format!("cannot write {}: {e:#}", out.display()))
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("boot: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match write_image(&args.kernel, &args.out, args.uefi) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("boot: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Args, String> {
        parse(words.iter().map(|w| String::from(*w)))
    }

    #[test]
    fn two_paths_and_the_firmware() {
        let args = parsed(&["k", "--uefi", "o"]).unwrap();
        assert_eq!(args.kernel, Path::new("k"));
        assert_eq!(args.out, Path::new("o"));
        assert!(args.uefi);
        assert!(!parsed(&["k", "o"]).unwrap().uefi);
    }

    #[test]
    fn wrong_usage_names_what_was_wrong() {
        assert!(parsed(&["k"]).is_err_and(|e| e.contains("got 1")));
        assert!(parsed(&["k", "o", "p"]).is_err_and(|e| e.contains("got 3")));
        assert!(parsed(&["--bios", "k", "o"]).is_err_and(|e| e.contains("--bios")));
    }
}
