//! The driver's hand: carries out what comes over the virtio-serial port, each
//! request in a thread of its own.

mod programs;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bed::protocol::{Answer, Bytes, FromGuest, Op, PORT, Request};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::Failure;
use crate::init;
use programs::Programs;

/// Serves until the port fails.
pub fn serve() -> Result<(), Failure> {
    let port = find_port()?;
    let mut reader =
        OpenOptions::new().read(true).write(true).open(&port).map_err(|e| at("open", &port, &e))?;
    let writer = Arc::new(Mutex::new(reader.try_clone()?));
    let programs = Arc::new(Programs::default());
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    send(&writer, &FromGuest::Hello { boot_id })?;

    let mut pending = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let length = reader.read(&mut chunk)?;
        if length == 0 {
            // The driver is not connected.
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        let mut rest = &chunk[..length];
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            pending.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            if let Ok(request) = serde_json::from_slice::<Request>(&pending) {
                let (writer, programs) = (Arc::clone(&writer), Arc::clone(&programs));
                thread::spawn(move || answer(request, &programs, &writer));
            }
            pending.clear();
        }
        pending.extend_from_slice(rest);
    }
}

fn find_port() -> Result<PathBuf, Failure> {
    for _ in 0..500 {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            let device = Path::new("/dev").join(entry.file_name());
            if name.trim() == PORT && device.exists() {
                return Ok(device);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("no virtio-serial port named {PORT}").into())
}

fn send(writer: &Mutex<File>, message: &FromGuest) -> Result<(), Failure> {
    // The leading newline ends what a reset may have cut off.
    let mut line = b"\n".to_vec();
    serde_json::to_writer(&mut line, message)?;
    line.push(b'\n');
    writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?;
    Ok(())
}

fn answer(request: Request, programs: &Programs, writer: &Mutex<File>) {
    let answer =
        carry_out(request.op, programs).unwrap_or_else(|e| Answer::Failed { error: e.to_string() });
    if let Err(e) = send(writer, &FromGuest::Reply { id: request.id, answer }) {
        eprintln!("bed guest: answer to {}: {e}", request.id);
    }
}

fn carry_out(op: Op, programs: &Programs) -> Result<Answer, Failure> {
    match op {
        Op::Run { program, stdin, timeout_ms } => {
            programs::run(&program, &stdin.0, Duration::from_millis(timeout_ms))
        }
        Op::Spawn { program, log } => programs.spawn(&program, &log),
        Op::Wait { pid, timeout_ms } => programs.wait(pid, Duration::from_millis(timeout_ms)),
        Op::Signal { pid, signal } => programs.signal(pid, signal),
        Op::Put { path, data, mode } => {
            put(&path, &data.0, mode).map_err(|e| at("write", &path, &e))?;
            Ok(Answer::Done)
        }
        Op::Get { path } => {
            let data = fs::read(&path).map_err(|e| at("read", &path, &e))?;
            Ok(Answer::Data { data: Bytes(data) })
        }
        Op::SetClock { unix_ms } => {
            let time = TimeSpec::new(unix_ms / 1000, unix_ms % 1000 * 1_000_000);
            clock_settime(ClockId::CLOCK_REALTIME, time)?;
            Ok(Answer::Done)
        }
        Op::Reboot => init::orderly_reboot().map(|never| match never {}),
    }
}

fn put(path: &Path, data: &[u8], mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{stamp}.part"));
    let mut file = File::create(&part)?;
    file.write_all(data)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    drop(file);
    fs::rename(&part, path)
}

fn at(what: &str, path: &Path, e: &std::io::Error) -> Failure {
    format!("{what} {}: {e}", path.display()).into()
}
