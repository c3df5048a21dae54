//! The guest as a child process: its output to ours, our input to it, and its end when nobody reads
//! any more.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::filter::Filter;

/// As a shell reports a process that SIGPIPE ended.
const UNREAD: u8 = 141;
/// Ends a line that was begun, and the console's input.
const END_OF_INPUT: &[u8] = b"\n\x04";

/// A guest that runs.
pub(crate) struct Guest {
    child: Child,
    output: ChildStdout,
    /// Lets our standard input through to it.
    ready: Option<Sender<()>>,
    /// Nobody reads its output any more.
    unread: Arc<AtomicBool>,
}

impl Guest {
    /// Starts it. With `pipe` our standard input goes to it once its console is ready; without, it
    /// has that itself.
    pub(crate) fn start(program: &str, args: &[String], pipe: bool) -> io::Result<Self> {
        let input = if pipe {
            Stdio::piped()
        } else {
            Stdio::inherit()
        };
        let mut child = Command::new(program)
            .args(args)
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let ready = child.stdin.take().map(pass_on);
        let pid = Pid::from_child(&child);
        let unread = Arc::new(AtomicBool::new(false));
        let seen = unread.clone();
        thread::spawn(move || {
            wait_for_the_reader_to_go();
            // Relaxed: the guest's end comes after, and with it the look at the flag.
            seen.store(true, Ordering::Relaxed);
            end(pid);
        });
        Ok(Self {
            child,
            output,
            ready,
            unread,
        })
    }

    /// Shows its output until it ends. Returns the exit status to end with.
    pub(crate) fn show(mut self, filter: Filter) -> io::Result<u8> {
        let pid = Pid::from_child(&self.child);
        if self.copy(filter).is_err() {
            self.unread.store(true, Ordering::Relaxed);
            end(pid);
        }
        let status = self.child.wait()?;
        if self.unread.load(Ordering::Relaxed) {
            return Ok(UNREAD);
        }
        let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0));
        Ok(code as u8)
    }

    /// Fails when the output cannot be written.
    fn copy(&mut self, mut filter: Filter) -> io::Result<()> {
        let mut output = io::stdout().lock();
        let mut buffer = [0; 4096];
        loop {
            // What cannot be read has ended.
            let n = match self.output.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result.unwrap_or(0),
            };
            let text = match &buffer[..n] {
                [] => filter.finish(),
                bytes => filter.feed(bytes),
            };
            output.write_all(&text)?;
            output.flush()?;
            if n == 0 {
                return Ok(());
            }
            if filter.is_ready() {
                // The thread may have ended, with its input.
                self.ready.take().map(|ready| ready.send(()));
            }
        }
    }
}

/// Our standard input to the guest, once something was sent to what this returns.
fn pass_on(mut guest: ChildStdin) -> Sender<()> {
    let (sender, ready) = channel();
    thread::spawn(move || {
        if ready.recv().is_ok() {
            // A guest that has ended reads nothing more, and there is nobody to tell.
            let _ = io::copy(&mut io::stdin().lock(), &mut guest);
            let _ = guest.write_all(END_OF_INPUT);
        }
    });
    sender
}

/// Sleeps until the other end of standard output is closed: for ever, where it has none.
fn wait_for_the_reader_to_go() {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP;
    // A poll that was interrupted is made again.
    while poll(&mut fds, None).is_err() || !fds[0].revents().intersects(gone) {}
}

/// Asks the guest to end. It may have done so already: this is called before it was waited for, or
/// as it is.
fn end(pid: Pid) {
    let _ = kill_process(pid, Signal::TERM);
}
