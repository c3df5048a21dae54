//! What starts once threads exist: background reclaim, the OOM killer's voice, files on the data
//! disk, swapping to the swap disk.
//!
//! Called once, from a thread, on either machine.

use alloc::format;
use alloc::string::String;

use mm::reclaim::{kswapd, oom};

use crate::out::Out;

/// Where lines go that no command asked for.
static VOICE: spin::Once<&'static dyn Out> = spin::Once::new();

fn tell(kill: &oom::Kill) {
    say(&format!("{kill}"));
}

/// Prints a line that no command asked for.
pub fn say(text: &str) {
    if let Some(out) = VOICE.get() {
        // In one piece: others print as well.
        out.put(&format!("{text}\n"));
    }
}

/// Starts kswapd, the flusher, and swapping to the machine's disks, if it has them. `format` writes
/// a swap header first.
///
/// # Errors
/// A sentence for the user; the machine then runs without swap (or without kswapd).
pub fn start(out: &'static dyn Out, format: bool) -> Result<(), String> {
    VOICE.call_once(|| out);
    oom::set_hook(tell);
    kswapd::start().map_err(|e| format!("kswapd does not start: {e:?}"))?;
    if let Some(disk) = data_disk() {
        mm::file::attach(disk).map_err(|e| format!("the data disk is not used: {e:?}"))?;
    }
    if format {
        mkswap()?;
    }
    match arch::swap_disk() {
        Some(_) => swap_on(),
        None => Ok(()),
    }
}

/// The swap disk; with the lab, errors can be injected before it.
fn disk() -> Result<&'static dyn arch::block::BlockDevice, String> {
    let disk = arch::swap_disk().ok_or_else(|| String::from("there is no swap disk"))?;
    #[cfg(feature = "lab")]
    let disk = crate::faulty::SWAP.before(disk);
    Ok(disk)
}

/// The disk for files, if the machine has one; with the lab, errors can be injected before it.
pub fn data_disk() -> Option<&'static dyn arch::block::BlockDevice> {
    let disk = arch::data_disk()?;
    #[cfg(feature = "lab")]
    let disk = crate::faulty::DATA.before(disk);
    Some(disk)
}

/// Writes a swap header to the disk.
///
/// # Errors
/// A sentence for the user.
pub fn mkswap() -> Result<(), String> {
    mm::swap::mkswap(disk()?, "quire", &[]).map_err(|e| format!("mkswap: {e}"))
}

/// Starts a disk again that was given up, says so, and tells whether it had been.
///
/// # Errors
/// A sentence for the user: it does not start.
pub fn restart(disk: &dyn arch::block::BlockDevice) -> Result<bool, String> {
    let name = disk.name();
    let was_down = disk
        .restart()
        .map_err(|_| format!("{name} was given up, and does not start again"))?;
    if was_down {
        say(&format!("{name}: started again"));
    }
    Ok(was_down)
}

/// Starts swapping to the disk; to one that was given up while it was in use, again.
///
/// # Errors
/// A sentence for the user.
pub fn swap_on() -> Result<(), String> {
    let disk = disk()?;
    if restart(disk)? && mm::swap::enabled() {
        return Ok(());
    }
    let header = mm::swap::swapon(disk);
    header
        .map(drop)
        .map_err(|e| format!("the swap disk is not used: {e}"))
}

/// Reads everything back and stops swapping.
///
/// # Errors
/// A sentence for the user.
pub fn swap_off() -> Result<(), String> {
    mm::ops::swapoff::swapoff().map_err(|e| format!("swapoff: {e}"))
}
