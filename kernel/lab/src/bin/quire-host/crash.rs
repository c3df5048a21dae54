//! `quire-host crash`: QEMU is killed at random moments while the guest promises; each time every
//! promise must be on the disk. `quire-host check IMAGE [OUTPUT]`: the check alone.
//!
//! A run boots the machine by `run-qemu.sh` with a fresh data disk and `stress msync --promises`,
//! and sends SIGKILL to QEMU at a moment that the seed says, counted from the first promise. What
//! the host has of the image then is what QEMU had written: a promise that was made before its
//! pages were written is broken there.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::args::{Args, UsageError};
use lab::shell::Status;
use lab::stress::versions::PROMISED;

use crate::fat_promises;
use crate::promises::Promises;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
       quire-host crash [--fat] [--runs N] [--secs N] [--seed S] [--fix KNOB=off ...] [--script PATH]
Kills QEMU N times (100), each time at a random moment of the first N seconds (3) of 'stress msync --promises', and looks for what
was promised on the disk image. --fix: with a rule broken, promises must be. --script: the run-qemu.sh to use (the one above
this program). Images of runs that fail are kept. --fat: of 'stress fat --promises', on a FAT volume; the image is mounted
on the simulator then, and what was synced must be at the beginning of each file.
       quire-host check [--fat] IMAGE [OUTPUT]
Holds a disk image, which was fresh, against the promises in the guest's output (standard input).
";

/// Bytes of the data disk; with --fat: so that some volumes are FAT12, some FAT16.
const DISK: u64 = 16 << 20;
const FAT12: u64 = 8 << 20;
const FAT16: u64 = 24 << 20;
/// Writes a second of the slow disk that every other run has: what is not waited for is still
/// missing when QEMU dies.
const SLOW: &str = "50";
/// How long it may take until the guest promises something; the first run builds.
const BOOT: Duration = Duration::from_secs(1200);
/// How long until everything has ended after the kill.
const END: Duration = Duration::from_secs(30);

/// The commands' names.
pub(crate) const NAMES: [&str; 2] = ["crash", "check"];

/// Runs the command that `words` name; the first is one of [`NAMES`].
///
/// # Errors
/// Wrong usage.
pub(crate) fn run(words: &[String]) -> Result<Status, UsageError> {
    let mut args = Args::new(words.get(1..).unwrap_or_default());
    match words.first().map(String::as_str) {
        Some("check") => check(args),
        _ => {
            let plan = Plan::parse(&mut args)?;
            args.done()?;
            Ok(Status::from_success(plan.carry_out()))
        }
    }
}

fn check(mut args: Args) -> Result<Status, UsageError> {
    let fat = args.flag("--fat");
    let image = args.want("a disk image")?;
    let output = args.word();
    args.done()?;
    let named = |path: &str, e| UsageError(format!("{path}: {e}"));
    let text = match &output {
        Some(path) => std::fs::read_to_string(path).map_err(|e| named(path, e))?,
        None => {
            std::io::read_to_string(std::io::stdin()).map_err(|e| named("standard input", e))?
        }
    };
    let found = verdict(fat, Path::new(&image), &text);
    match &found {
        Ok(n) => println!("{n} {} promised, all on the disk", what(fat)),
        Err(wrong) => println!("{wrong}"),
    }
    Ok(Status::from_success(found.is_ok()))
}

/// What promises are about.
fn what(fat: bool) -> &'static str {
    if fat { "files" } else { "pages" }
}

/// The pages, or files, that were promised, if all of them are in the image as they should be.
fn verdict(fat: bool, image: &Path, output: &str) -> Result<usize, String> {
    if fat {
        return fat_promises::check(image, output);
    }
    let promises = Promises::read(output)?;
    let mut file =
        BufReader::new(File::open(image).map_err(|e| format!("{}: {e}", image.display()))?);
    let wrong = promises
        .check(&mut file)
        .map_err(|e| format!("{}: {e}", image.display()))?;
    if wrong.is_empty() {
        return Ok(promises.pages());
    }
    Err(format!(
        "{} of {} promised pages are wrong:\n{}",
        wrong.len(),
        promises.pages(),
        wrong.join("\n")
    ))
}

struct Plan {
    fat: bool,
    runs: u64,
    secs: u64,
    seed: u64,
    /// Commands for the guest that switch rules off.
    broken: String,
    script: PathBuf,
    folder: PathBuf,
}

impl Plan {
    fn parse(args: &mut Args) -> Result<Self, UsageError> {
        let script = match args.value("--script")? {
            Some(path) => PathBuf::from(path),
            None => script().ok_or(UsageError::new(
                "there is no run-qemu.sh above this program; --script names it",
            ))?,
        };
        Ok(Self {
            fat: args.flag("--fat"),
            runs: args.number("--runs", 100, 1..=1_000_000)?,
            secs: args.number("--secs", 3, 1..=3600)?,
            seed: args.number("--seed", 1, 0..=u64::MAX)?,
            broken: broken(&args.values("--fix")?)?,
            script,
            folder: std::env::temp_dir().join(format!("quire-crash.{}", std::process::id())),
        })
    }

    /// Whether all runs were good. Prints KTAP.
    fn carry_out(&self) -> bool {
        println!("KTAP version 1\n1..{}", self.runs);
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let (mut bad, mut pages) = (0, 0);
        for run in 1..=self.runs {
            let moment = Duration::from_millis(rng.u64(0..self.secs * 1000));
            let text = format!("killed after {} ms", moment.as_millis());
            match self.one(run, moment) {
                Ok(promised) => {
                    let what = what(self.fat);
                    println!("ok {run} - {text}: {promised} {what} promised, all on the disk");
                    pages += promised;
                }
                Err(what) => {
                    for line in what.lines() {
                        println!("# {line}");
                    }
                    println!("not ok {run} - {text}");
                    bad += 1;
                }
            }
        }
        println!(
            "# {} kills, {pages} {} promised, {bad} runs failed",
            self.runs,
            what(self.fat)
        );
        // Empty, unless a run failed.
        let _ = std::fs::remove_dir(&self.folder);
        bad == 0
    }

    fn one(&self, run: u64, moment: Duration) -> Result<usize, String> {
        let seed = self.seed.wrapping_add(run);
        let image = self.folder.join(format!("{run}.img"));
        let text = |e| format!("{}: {e}", image.display());
        std::fs::create_dir_all(&self.folder).map_err(text)?;
        let disk = File::create(&image).map_err(text)?;
        let bytes = match (self.fat, seed % 4) {
            (false, _) => DISK,
            (true, 0 | 1) => FAT12,
            (true, _) => FAT16,
        };
        disk.set_len(bytes).map_err(text)?;
        drop(disk);
        let mut guest = Guest::start(self, &image, seed)?;
        let result = guest.kill_at(moment);
        let output = guest.end();
        let found = result.and_then(|()| verdict(self.fat, &image, &output));
        if found.is_ok() {
            // A leftover is no harm.
            let _ = std::fs::remove_file(&image);
            return found;
        }
        let log = image.with_extension("txt");
        std::fs::write(&log, &output).map_err(text)?;
        found.map_err(|what| {
            let (image, log) = (image.display(), log.display());
            let fat = if self.fat { "--fat " } else { "" };
            format!("{what}\nkept: quire-host check {fat}{image} {log}")
        })
    }
}

/// Commands for these words of the form `KNOB=on|off`.
fn broken(words: &[String]) -> Result<String, UsageError> {
    let command = |word: &String| match word.split_once('=') {
        Some((knob, state @ ("on" | "off"))) => Ok(format!("fix {knob} {state}; ")),
        _ => Err(UsageError(format!(
            "--fix: '{word}' is not KNOB=on or KNOB=off"
        ))),
    };
    words.iter().map(command).collect()
}

/// The `run-qemu.sh` of the folder that this program was built in.
fn script() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folders = program.ancestors();
    folders
        .map(|folder| folder.join("run-qemu.sh"))
        .find(|path| path.is_file())
}

/// A machine that runs. What it prints arrives line by line from a thread.
struct Guest {
    script: Child,
    pid: PathBuf,
    lines: Receiver<String>,
    readers: [JoinHandle<()>; 2],
    errors: Receiver<String>,
    output: String,
}

impl Guest {
    fn start(plan: &Plan, image: &Path, seed: u64) -> Result<Self, String> {
        let pid = image.with_extension("pid");
        let slow: &[&str] = if seed.is_multiple_of(2) {
            &["--data-slow", SLOW]
        } else {
            &[]
        };
        let mut script = Command::new(&plan.script)
            .args(["--cpus", "4", "--mem", "96M", "--swap", "16M"])
            .arg("--exec")
            .arg(format!(
                "{}{} --promises --secs 100000 --seed {seed}",
                plan.broken,
                if plan.fat {
                    "mkfs; mount; stress fat"
                } else {
                    "stress msync"
                }
            ))
            .arg("--data-image")
            .arg(image)
            .args(slow)
            .arg("--pid-file")
            .arg(&pid)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", plan.script.display()))?;
        let (lines, out) = follow(script.stdout.take());
        let (errors, err) = follow(script.stderr.take());
        Ok(Self {
            script,
            pid,
            lines,
            readers: [out, err],
            errors,
            output: String::new(),
        })
    }

    /// Ends QEMU `moment` after the first promise.
    fn kill_at(&mut self, moment: Duration) -> Result<(), String> {
        let mut until = Instant::now() + BOOT;
        let mut begun = false;
        loop {
            match self.lines.recv_timeout(until - Instant::now().min(until)) {
                Ok(line) => {
                    let first = !begun && line.starts_with(PROMISED);
                    if first {
                        begun = true;
                        until = Instant::now() + moment;
                    }
                    self.output.push_str(&line);
                    if line.contains("FAILED") {
                        // It may have ended already.
                        let _ = self.kill();
                        return Err(format!("the guest found something itself: {line}"));
                    }
                }
                Err(RecvTimeoutError::Timeout) if begun => return self.kill(),
                Err(RecvTimeoutError::Timeout) => {
                    self.kill()?;
                    return Err(format!("nothing was promised\n{}", self.output));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let said: String = self.errors.try_iter().collect();
                    return Err(format!(
                        "the machine ended by itself\n{}{said}",
                        self.output
                    ));
                }
            }
        }
    }

    fn kill(&self) -> Result<(), String> {
        let pid = std::fs::read_to_string(&self.pid).map_err(|e| format!("QEMU's pid: {e}"))?;
        signal("-KILL", pid.trim()).map_err(|e| format!("QEMU could not be killed: {e}"))
    }

    /// All that it has printed, once nothing of it runs any more.
    fn end(mut self) -> String {
        let until = Instant::now() + END;
        while let Ok(line) = self.lines.recv_timeout(until - Instant::now().min(until)) {
            self.output.push_str(&line);
        }
        // It may have ended on its own; told to, it takes QEMU with it.
        let _ = signal("-TERM", &self.script.id().to_string());
        let _ = self.script.wait();
        for reader in self.readers {
            // A reader has nothing to fail at.
            let _ = reader.join();
        }
        let _ = std::fs::remove_file(&self.pid);
        self.output
    }
}

fn signal(which: &str, pid: &str) -> Result<(), String> {
    match Command::new("kill").args([which, pid]).output() {
        Ok(run) if run.status.success() => Ok(()),
        Ok(run) => Err(String::from_utf8_lossy(&run.stderr).into_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The lines of a stream, read by a thread of its own.
fn follow(stream: Option<impl Read + Send + 'static>) -> (Receiver<String>, JoinHandle<()>) {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || {
        let Some(stream) = stream else { return };
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    (receiver, thread)
}
