//! A peer that is no ovsdb-server: every word of it is an error, and none hangs or panics.

use pointsman::ovsdb::{Client, Snapshot};
use pointsman_core::error::{Reasoned, chain};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(700);

/// Answers one connection by `talk`; gives reason and text of the client's error.
fn ask(talk: impl FnOnce(UnixStream) + Send + 'static) -> (&'static str, String) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let peer = std::thread::spawn(move || talk(listener.accept().unwrap().0));
    let start = Instant::now();
    let error = Client::connect(&socket, PATIENCE)
        .and_then(|mut client| Snapshot::read(&mut client))
        .unwrap_err();
    assert!(start.elapsed() < 3 * PATIENCE, "took {:?}: {error}", start.elapsed());
    peer.join().unwrap();
    (error.reason(), chain(&error))
}

fn request(stream: &mut UnixStream) -> Value {
    let mut reader = serde_json::Deserializer::from_reader(stream).into_iter::<Value>();
    reader.next().unwrap().unwrap()
}

fn answer(stream: &mut UnixStream, result: &Value) {
    let id = request(stream)["id"].clone();
    let reply = json!({"id": id, "result": result, "error": null});
    stream.write_all(reply.to_string().as_bytes()).unwrap();
}

/// Says something, then waits until the client has gone.
fn say(bytes: impl Into<Vec<u8>>) -> impl FnOnce(UnixStream) + Send + 'static {
    let bytes = bytes.into();
    move |mut stream| {
        request(&mut stream);
        // a client that has had enough hangs up before the end
        drop(stream.write_all(&bytes));
        drop(stream.read(&mut [0; 1]));
    }
}

#[test]
fn words_that_are_no_json_rpc() {
    for words in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "]",
        "\0\0\0",
        "null",
        "{]",
        "{\"a\" 1}",
        "{\"id\":77,\"result\":[]}",
        "{}",
    ] {
        let (reason, text) = ask(say(words));
        assert_eq!(reason, "OvsProtocolError", "{words}: {text}");
        assert!(text.starts_with("what answers at "), "{text}");
    }
}

#[test]
fn half_a_message_and_silence() {
    for words in ["", "{\"id\": 1, \"resu", "   "] {
        let (reason, text) = ask(say(words));
        assert_eq!(reason, "OvsUnavailable", "{text}");
        assert!(text.contains("no answer within 0.7 s"), "{text}");
    }
}

#[test]
fn a_peer_that_hangs_up() {
    let (reason, text) = ask(|mut stream| drop(request(&mut stream)));
    assert_eq!((reason, text.ends_with("it hung up")), ("OvsUnavailable", true), "{text}");
    let (reason, _) = ask(drop);
    assert_eq!(reason, "OvsUnavailable");
    let (reason, text) = ask(|mut stream| {
        request(&mut stream);
        stream.write_all(b"{\"id\":1,\"resu").unwrap();
    });
    assert_eq!((reason, text.ends_with("it hung up")), ("OvsUnavailable", true), "{text}");
}

#[test]
fn a_message_without_end_and_one_of_endless_depth() {
    let huge = [b"{\"id\":1,\"result\":\"".to_vec(), vec![b'x'; 40 << 20]].concat();
    let (reason, text) = ask(say(huge));
    // a machine too slow to read so much in time says so, which is an end too
    assert!(matches!(reason, "OvsProtocolError" | "OvsUnavailable"), "{text}");
    let deep = format!("{{\"id\":1,\"result\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let (reason, text) = ask(say(deep));
    assert_eq!(reason, "OvsProtocolError", "{text}");
}

#[test]
fn a_flood_of_notifications_ends_with_the_deadline() {
    let (reason, _) = ask(|mut stream| {
        request(&mut stream);
        while stream.write_all(b"{\"method\":\"update\",\"params\":[],\"id\":null}").is_ok() {}
    });
    assert_eq!(reason, "OvsUnavailable");
}

#[test]
fn results_of_another_shape() {
    let root = json!({"_uuid": ["uuid", "a"], "bridges": ["set", []], "next_cfg": 1, "cur_cfg": 1,
        "ovs_version": "3", "other_config": ["map", []]});
    let empty = json!({"rows": []});
    let rows = |root: Value| json!([{"rows": [root]}, empty.clone(), empty.clone(), empty.clone()]);
    let without = |column: &str, value: Value| {
        let mut root = root.clone();
        root[column] = value;
        rows(root)
    };
    let shapes = [
        json!(null),
        json!({}),
        json!([]),
        json!([null, null, null, null]),
        json!([{"rows": 1}, {}, {}, {}]),
        json!([empty, empty, empty, empty]),
        without("next_cfg", json!("1")),
        without("next_cfg", json!(1e300)),
        without("other_config", json!(["map", [["k"]]])),
        without("bridges", json!(["set", [["named-uuid", "x"]]])),
        without("_uuid", json!([])),
    ];
    for shape in shapes {
        let told = shape.to_string();
        let (reason, text) = ask(move |mut stream| answer(&mut stream, &shape));
        assert_eq!(reason, "OvsProtocolError", "{told}: {text}");
    }
}

#[test]
fn an_error_of_the_server_is_told_with_its_details() {
    let (reason, text) = ask(|mut stream| {
        answer(
            &mut stream,
            &json!([{"error": "resources exhausted", "details": "disk full"}, null]),
        );
    });
    assert_eq!(reason, "OvsTransactionFailed");
    assert_eq!(text, "ovsdb-server did not read the configuration: resources exhausted: disk full");
    let (reason, text) = ask(|mut stream| {
        let id = request(&mut stream)["id"].clone();
        let reply = json!({"id": id, "result": null,
            "error": {"error": "unknown database", "details": "no such"}});
        stream.write_all(reply.to_string().as_bytes()).unwrap();
    });
    assert_eq!(reason, "OvsTransactionFailed", "{text}");
    assert!(text.ends_with("unknown database: no such"), "{text}");
}

#[test]
fn the_servers_own_echo_is_answered() {
    let (send, receive) = mpsc::channel();
    let (reason, _) = ask(move |mut stream| {
        let asked = request(&mut stream);
        assert_eq!(asked["method"], "transact");
        stream.write_all(br#"{"method":"echo","params":["x",7],"id":"echo"}"#).unwrap();
        send.send(request(&mut stream)).unwrap();
        let reply = json!({"id": asked["id"], "result": [], "error": null});
        stream.write_all(reply.to_string().as_bytes()).unwrap();
    });
    assert_eq!(reason, "OvsProtocolError", "the empty result that ends the talk");
    let echoed = receive.recv().unwrap();
    assert_eq!(echoed, json!({"id": "echo", "result": ["x", 7], "error": null}));
}
