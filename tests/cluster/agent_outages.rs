//! The agent's node module while the API server is away, or is not one.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pointsman_core::error::{Reasoned as _, chain};
use pointsman_core::keys;

use crate::agent::{Agent, LONG, SOON, annotate, annotations, deploy, eventually, report};
use crate::{alone, shared};

#[test]
fn a_report_waits_for_the_server_and_so_does_the_watch() {
    let mut plane = alone();
    plane.create_node("waits");
    let mut agent = Agent::of(&plane, "waits");
    let uid = agent.next(LONG).unwrap().uid;
    agent.publish(&uid, &report("before"));

    plane.stop();
    let start = Instant::now();
    agent.outbox.post(&uid, report("superseded"));
    agent.outbox.post(&uid, report("after"));
    assert!(start.elapsed() < Duration::from_millis(10), "posting holds nobody up");
    assert!(!agent.flush(Duration::from_secs(3)));
    let trouble = agent.outbox.trouble().unwrap();
    assert_eq!(trouble.reason(), "ApiUnreachable");
    assert!(trouble.is_transient());
    let text = chain(&*trouble);
    assert!(text.contains("waits") && text.contains("refused"), "{text}");
    let trouble = eventually("the watch tells too", LONG, || agent.node.trouble());
    assert_eq!(trouble.reason(), "ApiUnreachable");

    plane.start_again();
    let start = Instant::now();
    assert!(agent.flush(LONG), "{:?}", agent.outbox.trouble());
    println!("server back to report delivered: {:?}", start.elapsed());
    assert_eq!(annotations(&plane, "waits"), report("after").annotations());
    assert!(agent.outbox.trouble().is_none());

    eventually("watched again", LONG, || agent.node.trouble().is_none().then_some(()));
    println!("server back to watched: {:?}", start.elapsed());
    annotate(&plane, "waits", "pointsman.io/desired-profile=later");
    let seen = agent.next(SOON).expect("seen soon after a restart too");
    assert_eq!(seen.annotations.get(keys::DESIRED_PROFILE).map(String::as_str), Some("later"));
}

#[test]
fn what_was_asked_while_away_is_seen() {
    let mut plane = alone();
    plane.create_node("meanwhile");
    let mut agent = Agent::of(&plane, "meanwhile");
    let uid = agent.next(LONG).unwrap().uid;
    agent.publish(&uid, &report("before"));
    plane.stop();
    eventually("away", LONG, || agent.node.trouble());
    plane.start_again();
    // before the agent is back, most likely; its list finds it then
    annotate(&plane, "meanwhile", "pointsman.io/desired-profile=meanwhile");
    let seen = agent.next(LONG).expect("seen");
    assert_eq!(seen.annotations.get(keys::DESIRED_PROFILE).map(String::as_str), Some("meanwhile"));
}

/// A way to the server whose connections can be silenced without being broken, as
/// those of an address that has moved away.
struct Way {
    address: String,
    generation: Arc<AtomicUsize>,
}

impl Way {
    fn to(port: u16) -> Self {
        let generation = Arc::new(AtomicUsize::new(0));
        let current = Arc::clone(&generation);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let born = current.load(Ordering::SeqCst);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let current = Arc::clone(&current);
                    std::thread::spawn(move || carry(from, to, born, &current));
                }
            }
        });
        Self { address, generation }
    }

    /// From now on present connections carry nothing; new ones do.
    fn silence(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, born: usize, current: &AtomicUsize) {
    let mut buffer = [0; 16384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if current.load(Ordering::SeqCst) == born && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if current.load(Ordering::SeqCst) == born {
        // the end is news like any other
        drop(to.shutdown(std::net::Shutdown::Both));
    }
}

#[test]
fn connections_that_fell_silent_are_given_up() {
    let plane = shared();
    plane.create_node("moved");
    deploy(&plane);
    let token = plane.service_account_token("pointsman-system", "pointsman", "moved");
    let way = Way::to(plane.port());
    let server = format!("https://{}", way.address);
    let mut agent = Agent::connect("moved", &server, Some(&plane.ca()), &token);
    let uid = agent.next(LONG).unwrap().uid;
    agent.publish(&uid, &report("before the move"));

    // a report finds its connection dead, and takes another one
    way.silence();
    let start = Instant::now();
    agent.publish(&uid, &report("after the move"));
    println!("silence to report delivered, calls limited to 2 s: {:?}", start.elapsed());
    assert_eq!(annotations(&plane, "moved"), report("after the move").annotations());

    // the watch would wait for its own limit; told of the move, it does not
    annotate(&plane, "moved", "pointsman.io/desired-profile=unheard");
    assert_eq!(agent.next(SOON), None, "the way is silent");
    agent.rebuild();
    let seen = agent.next(SOON).expect("seen soon after the move was told");
    assert_eq!(seen.annotations.get(keys::DESIRED_PROFILE).map(String::as_str), Some("unheard"));

    // told of it, neither does a report
    way.silence();
    agent.rebuild();
    let start = Instant::now();
    agent.publish(&uid, &report("after the next move"));
    println!("move told to report delivered: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// A server of ours that is no API server, and how often it was called.
fn impostor(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let answer = Arc::new(answer);
    // ends with the test process
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    (address, calls)
}

/// Watches and reports through something that never works, for six seconds.
fn endure(server: &str, calls: &AtomicUsize) -> (Agent, &'static str) {
    let agent = Agent::connect("lost", server, None, "t");
    agent.outbox.post("some-uid", report("lost"));
    let trouble = eventually("trouble", LONG, || agent.node.trouble());
    println!("{}", chain(&*trouble));
    std::thread::sleep(Duration::from_secs(6));
    let calls = calls.load(Ordering::SeqCst);
    println!("{calls} connections");
    assert!((2..=14).contains(&calls), "{calls} connections in six seconds");
    assert!(agent.outbox.is_pending() && agent.outbox.trouble().is_some());
    let reason = trouble.reason();
    (agent, reason)
}

#[test]
fn a_server_that_hangs_up_is_no_server() {
    let (address, calls) = impostor(drop);
    let (_agent, reason) = endure(&format!("http://{address}"), &calls);
    assert_eq!(reason, "ApiUnreachable");
}

#[test]
fn a_server_without_tls_is_no_server() {
    let (address, calls) = impostor(|mut stream| drop(stream.write_all(b"220 mail\r\n")));
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, include_str!("agent_outages.pem")).unwrap();
    let agent = Agent::connect("lost", &format!("https://{address}"), Some(&ca), "t");
    let trouble = eventually("trouble", LONG, || agent.node.trouble());
    assert_eq!(trouble.reason(), "ApiUnreachable", "{}", chain(&*trouble));
    std::thread::sleep(Duration::from_secs(4));
    assert!(calls.load(Ordering::SeqCst) <= 6);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let (address, calls) = impostor(|mut stream| {
        // reads on, so that it is silence and not a full window
        while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
    });
    let (_agent, reason) = endure(&format!("http://{address}"), &calls);
    assert_eq!(reason, "ApiTimedOut");
}

fn answer(stream: &mut TcpStream, status: &str, kind: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n");
    let length = body.len();
    drop(stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()));
}

#[test]
fn a_web_page_is_not_an_answer() {
    let page = format!("<html>{}</html>", "sorry ".repeat(5000));
    let (address, calls) = impostor(move |mut stream| {
        drop(stream.read(&mut [0; 65536]));
        answer(&mut stream, "503 Service Unavailable", "text/html", &page);
    });
    let (agent, reason) = endure(&format!("http://{address}"), &calls);
    assert_eq!(reason, "ApiDenied");
    let trouble = agent.node.trouble().unwrap();
    let text = chain(&*trouble);
    assert!(text.contains("503") && text.len() < 1200, "{} bytes: {text}", text.len());
    assert!(trouble.is_transient());
}

#[test]
fn a_server_that_ends_each_watch_at_once_is_not_followed_in_haste() {
    let list = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1",
        "metadata":{"resourceVersion":"5"},"items":[]}"#;
    let (address, calls) = impostor(move |mut stream| {
        let mut request = [0; 65536];
        let length = stream.read(&mut request).unwrap_or_default();
        let watch = String::from_utf8_lossy(&request[..length]).contains("watch=true");
        answer(&mut stream, "200 OK", "application/json", if watch { "" } else { list });
    });
    let (agent, reason) = endure(&format!("http://{address}"), &calls);
    assert_eq!(reason, "ApiUnreachable");
    let text = agent.node.trouble().unwrap().to_string();
    assert!(text.contains("ends every watch"), "{text}");
}
