//! What is done before the machine ends, however it came to that: Ctrl-D, `poweroff`, or the last
//! of the commands.
//!
//! Called once, from the console's thread, on either machine. Sleeps.

use fs::FsError;

use crate::out::Out;
use crate::shell::Status;

/// Unmounts the volume, if one is mounted. Returns the status to end with: `status`, or
/// [`Status::Failed`] where that was good and something is lost; what, is printed.
pub fn end(out: &dyn Out, status: Status) -> Status {
    let done = match fs::unmount() {
        // Somebody uses a file still: at least its content is durable.
        Err(FsError::Open) => fs::mounted().and_then(|volume| volume.sync()),
        other => other,
    };
    match done {
        Ok(()) | Err(FsError::NotMounted) => status,
        Err(e) => {
            writeln!(
                out,
                "the volume cannot be unmounted: {e}; what was written to it since the last sync is lost"
            );
            match status {
                Status::Ok => Status::Failed,
                first => first,
            }
        }
    }
}
