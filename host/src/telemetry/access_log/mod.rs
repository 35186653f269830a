//! A line for each finished exchange, written aside.
//!
//! A worker appends the line to a buffer of its own; a thread takes what has gathered a few times a second and writes
//! it. When that thread cannot keep up (a full disk, a stopped reader of standard output) the buffer reaches its
//! bound, and further lines are counted and dropped: no worker ever waits for a disk.

mod record;
mod relayed;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{error, warn};

use super::clock::HttpDate;
use super::exposition::{Exposition, Kind};
use crate::config::{self, AccessLogFormat};

pub use record::Record;
pub use relayed::Relayed;

/// What can be a line of the log, without its end.
pub(crate) trait Line {
    fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()>;
    fn write_combined(&self, date: &mut HttpDate, out: &mut Vec<u8>);
}

/// Bytes of lines that may wait in one worker's buffer.
const MAX_WAITING: usize = 1024 * 1024;

/// How long lines gather before they are written: more would be felt by who follows the file, less would wake the
/// writer for every line.
const GATHERING: Duration = Duration::from_millis(20);

/// How long the end waits for lines to be written, should the file or the pipe not take them.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// An open access log. Dropping it writes what has gathered.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessLogFormat,
    shared: Arc<Shared>,
    wake: SyncSender<()>,
    /// Locked by the last owner only.
    ended: Mutex<Receiver<()>>,
}

/// What a worker logs with.
#[derive(Debug)]
pub struct AccessLogger {
    format: AccessLogFormat,
    shared: Arc<Shared>,
    lines: Arc<Lines>,
    /// Holds one message at most: a writer that is awake already needs no second one.
    wake: SyncSender<()>,
    date: HttpDate,
}

#[derive(Debug, Default)]
struct Shared {
    loggers: Mutex<Vec<Arc<Lines>>>,
    lost: AtomicU64,
    closing: AtomicBool,
}

/// Lines that wait. The lock is in the request path because the other side holds it for an exchange of pointers only.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<u8>>);

impl AccessLog {
    /// Opens the file, or standard output, and starts the thread that writes to it.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for appending, or no thread started.
    pub fn start(config: &config::AccessLog) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match &config.path {
            None => Box::new(io::stdout()),
            Some(path) => {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                Box::new(OpenOptions::new().append(true).create(true).open(path).map_err(named)?)
            }
        };
        Self::start_with(sink, config.format)
    }

    fn start_with(sink: Box<dyn Write + Send>, format: AccessLogFormat) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (wake, woken) = sync_channel(1);
        let (end, ended) = channel();
        let writer = Writer { sink, shared: shared.clone(), woken, spare: Vec::new(), failing_since: None, end };
        thread::Builder::new().name("access-log".to_owned()).spawn(|| writer.run())?;
        Ok(Self { format, shared, wake, ended: Mutex::new(ended) })
    }

    /// A worker's own way to log.
    pub fn logger(&self) -> AccessLogger {
        let lines = Arc::<Lines>::default();
        self.shared.loggers.lock().push(lines.clone());
        AccessLogger {
            format: self.format,
            shared: self.shared.clone(),
            lines,
            wake: self.wake.clone(),
            date: HttpDate::new(),
        }
    }

    /// Lines that were dropped, because too many waited or writing failed.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes [`lost`](Self::lost) as a metric.
    pub fn write_metrics(&self, out: &mut Exposition) {
        let help = "Access log lines dropped, because too many waited or writing failed.";
        out.family("staunch_telemetry_access_log_lost_lines_total", Kind::Counter, help);
        out.sample(&[], self.lost());
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        _ = self.wake.try_send(());
        if self.ended.get_mut().recv_timeout(LAST_FLUSH) == Err(RecvTimeoutError::Timeout) {
            warn!("the access log did not take its last lines");
        }
    }
}

impl AccessLogger {
    pub(crate) fn log(&mut self, record: &impl Line) {
        let mut lines = self.lines.0.lock();
        let start = lines.len();
        let is_formatted = match self.format {
            AccessLogFormat::Json => record.write_json(&mut lines).is_ok(),
            AccessLogFormat::Combined => {
                record.write_combined(&mut self.date, &mut lines);
                true
            }
        };
        if !is_formatted || lines.len() >= MAX_WAITING {
            lines.truncate(start);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.push(b'\n');
        drop(lines);
        // Only the first line of a batch wakes the writer.
        if start == 0 {
            _ = self.wake.try_send(());
        }
    }
}

/// The thread that writes.
struct Writer {
    sink: Box<dyn Write + Send>,
    shared: Arc<Shared>,
    woken: Receiver<()>,
    spare: Vec<u8>,
    /// When the last complaint about a failing sink was logged, while it fails.
    failing_since: Option<Instant>,
    /// Dropped at the end, which the other side notices.
    #[expect(dead_code, reason = "dropping it is the message")]
    end: Sender<()>,
}

impl Writer {
    fn run(mut self) {
        while self.woken.recv().is_ok() {
            // Read before the last lines are taken, so that none can follow them.
            let is_closing = self.shared.closing.load(Ordering::Acquire);
            if !is_closing {
                thread::sleep(GATHERING);
            }
            self.write_all();
            if is_closing {
                break;
            }
        }
    }

    fn write_all(&mut self) {
        let mut loggers = self.shared.loggers.lock().clone();
        for lines in &loggers {
            self.spare.clear();
            mem::swap(&mut *lines.0.lock(), &mut self.spare);
            if !self.spare.is_empty() {
                let written = self.sink.write_all(&self.spare).and_then(|()| self.sink.flush());
                self.note(written);
            }
        }
        // A logger that has gone leaves the list and this thread as the holders of its lines.
        loggers.retain(|lines| Arc::strong_count(lines) <= 2 && lines.0.lock().is_empty());
        if !loggers.is_empty() {
            self.shared.loggers.lock().retain(|lines| !loggers.iter().any(|gone| Arc::ptr_eq(gone, lines)));
        }
    }

    /// Counts lines that could not be written, and complains once a minute at most.
    fn note(&mut self, written: io::Result<()>) {
        let Err(error) = written else {
            self.failing_since = None;
            return;
        };
        let lines = memchr::memchr_iter(b'\n', &self.spare).count();
        self.shared.lost.fetch_add(lines as u64, Ordering::Relaxed);
        if self.failing_since.is_none_or(|since| since.elapsed() > Duration::from_secs(60)) {
            self.failing_since = Some(Instant::now());
            error!(%error, "the access log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(target: &str) -> Record<'_> {
        Record { method: "GET", target, status: 200, ..Record::default() }
    }

    #[test]
    fn lines_of_all_workers_are_appended_and_flushed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        let config = config::AccessLog { path: Some(path.clone()), format: AccessLogFormat::Combined };

        let log = AccessLog::start(&config).unwrap();
        let loggers: Vec<_> = (0..3).map(|_| log.logger()).collect();
        thread::scope(|scope| {
            for mut logger in loggers {
                scope.spawn(move || (0..100).for_each(|i| logger.log(&record(&format!("/{i}")))));
            }
        });
        assert_eq!(log.lost(), 0);
        drop(log);

        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 301);
        assert!(text.starts_with("before\n") && text.ends_with('\n'), "{text}");
        assert_eq!(text.matches("\"GET /42 HTTP/1.1\" 200").count(), 3);
    }

    #[test]
    fn a_line_is_written_without_an_end_or_a_second_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log =
            AccessLog::start(&config::AccessLog { path: Some(path.clone()), format: AccessLogFormat::Json }).unwrap();

        log.logger().log(&record("/only"));

        let deadline = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&path).unwrap().ends_with("}\n") {
            assert!(Instant::now() < deadline, "no line came");
            thread::yield_now();
        }
    }

    #[test]
    fn a_sink_that_takes_nothing_costs_lines_and_never_time() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = sync_channel(0);
        let log = AccessLog::start_with(Box::new(Stuck(stuck)), AccessLogFormat::Json).unwrap();
        let mut logger = log.logger();
        let target = "x".repeat(8 * 1024);

        for _ in 0..400 {
            logger.log(&record(&target));
        }

        assert!(log.lost() >= 400 - 2 * (MAX_WAITING as u64 / 8192), "{}", log.lost());
        drop(release);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start_with(Box::new(Full), AccessLogFormat::Json).unwrap();
        let shared = log.shared.clone();
        let mut logger = log.logger();

        logger.log(&record("/a"));
        logger.log(&record("/b"));
        drop(log);

        assert_eq!(shared.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = config::AccessLog { path: Some("/nowhere/at/all.log".into()), format: AccessLogFormat::Json };

        let error = AccessLog::start(&config).unwrap_err();

        assert!(error.to_string().starts_with("/nowhere/at/all.log: "), "{error}");
    }
}
