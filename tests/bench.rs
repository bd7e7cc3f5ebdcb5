//! `corebeat bench` as a person runs it: the real program, small sizes, real sockets.
//!
//! No test here asserts how fast anything was. The generator's own bounds are wide open but where
//! they are what is tested, since a machine that runs tests does other things meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use corebeat::wire::native;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_corebeat");

/// The generator, and a server of its own that lets in whoever comes, however late it is itself.
fn bench_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("bench").args(arguments).env("COREBEAT_OVERLOAD_LAG", "off");
    command
}

fn bench(arguments: &[&str]) -> Output {
    bench_command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Where a test may write a file of its own.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs with open bounds and gives back the exit code, what was printed, and the JSON file.
fn measure(name: &str, arguments: &[&str]) -> (Option<i32>, String, Value) {
    let path = scratch(&format!("{name}.json"));
    let file = path.to_str().unwrap();
    let open = ["--lag", "1m", "--busy", "100", "--patience", "30s", "--json", file];
    let output = bench(&[arguments, &open].concat());
    let told = text(&output.stdout) + &text(&output.stderr);
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {told}"));
    let json = serde_json::from_str(&json).unwrap();
    (output.status.code(), told, json)
}

/// A run that must pass, with what it measured.
fn passes(name: &str, arguments: &[&str]) -> Value {
    let (code, told, json) = measure(name, arguments);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(json["verdict"], "passed", "{told}");
    assert!(told.contains("passed: every delivery was checked"), "{told}");
    assert_eq!(json["violations"].as_array().unwrap().len(), 0);
    assert!(!told.contains('\x1b'), "the live line is for terminals: {told}");
    json["results"].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn latency<'a>(results: &'a Value, kind: &str) -> &'a Value {
    let rows = results["latencies"].as_array().unwrap();
    rows.iter().find(|row| row["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {rows:?}"))
}

#[test]
fn idle_holds_connections_and_proves_at_the_end_that_all_are_there() {
    let results = passes("idle", &["idle", "-c", "60", "--rooms", "3", "-d", "1s"]);
    // One message to each of three rooms of twenty.
    assert_eq!(number(&results["traffic"]["due"]), 57.0);
    assert_eq!(number(&results["traffic"]["came"]), 57.0);
    assert!(results["server"]["idle_us_per_connection_second"].is_number());
    assert!(number(&results["ramp"]["connections_per_s"]) > 0.0);
}

#[test]
fn broadcast_counts_every_delivery_and_tells_what_the_server_needed() {
    let arguments = ["-c", "60", "--rooms", "3", "--publishers", "2", "-r", "60", "-d", "1s"];
    let results = passes("broadcast", &[&arguments[..], &["--warm-up", "500ms"]].concat());
    let row = latency(&results, "delivery");
    // 60 messages in the measured second, or fewer where the generator was late, each to nineteen
    // others.
    let sent = number(&results["traffic"]["sent_per_s"]) * number(&results["measured_s"]);
    assert!(sent.round() > 0.0 && sent.round() <= 61.0, "{sent} were sent");
    assert_eq!(number(&row["count"]), sent.round() * 19.0, "{row}");
    let order = ["p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];
    let values = order.map(|name| number(&row[name]));
    assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{values:?}");
    assert!(values[0] > 0.0);
    assert_eq!(number(&results["traffic"]["delivery_ratio"]), 1.0);
    assert!(number(&results["server"]["resident_peak_bytes"]) > 0.0);
    assert!(!results["course"].as_array().unwrap().is_empty());
}

#[test]
fn every_dialect_is_spoken() {
    for dialect in ["native-crc", "text", "ws-json", "ws-bin"] {
        let arguments = ["-c", "20", "--rooms", "2", "-r", "40", "-d", "1s", "--warm-up", "200ms"];
        let name = format!("broadcast-{dialect}");
        let results = passes(&name, &[&arguments[..], &["--dialect", dialect]].concat());
        assert!(number(&results["traffic"]["deliveries"]) > 0.0);
        let arguments = ["echo", "-c", "5", "-r", "50", "-d", "1s", "--warm-up", "200ms"];
        let name = format!("echo-{dialect}");
        let results = passes(&name, &[&arguments[..], &["--dialect", dialect]].concat());
        assert!(number(&latency(&results, "echo")["count"]) > 0.0);
    }
}

/// Every scenario over WebSockets, small.
fn over_websockets(dialect: &str) {
    let run = |scenario: &str, arguments: &[&str]| {
        let name = format!("{scenario}-{dialect}");
        passes(&name, &[&[scenario, "--dialect", dialect], arguments].concat())
    };
    let heartbeats = ["-d", "4s", "--serve", "--heartbeat 1s"];
    let results = run("idle", &[&["-c", "20", "--rooms", "2"], &heartbeats[..]].concat());
    assert_eq!(number(&results["traffic"]["came"]), 18.0);
    assert!(
        number(&results["traffic"]["pings_answered"]) >= 20.0,
        "everybody was asked for a sign of life"
    );

    let long = ["-r", "20", "-d", "2s", "--warm-up", "200ms"];
    let churn = ["-c", "10", "--rooms", "1", "--churn-rate", "20", "--lifetime", "1s"];
    let results = run("churn", &[&churn[..], &long].concat());
    assert_eq!(number(&results["churn"]["unfinished"]), 0.0);

    let results = run("storm", &["-c", "50", "--rooms", "2", "--threads", "2"]);
    assert_resumed(&results, 48.0);

    let slow = ["-c", "20", "--rooms", "1", "-r", "100", "--size", "32KiB", "-d", "3s"];
    let more = ["--warm-up", "200ms", "--serve", "--max-outbound 128KiB"];
    let results = run("slow", &[&slow[..], &more].concat());
    assert_eq!(number(&results["slow"]["dealt_with"]), 2.0);

    let mixed = ["-c", "50", "--rooms", "2", "--churn-rate", "10", "--lifetime", "1s"];
    let results = run("mixed", &[&mixed[..], &long].concat());
    for kind in ["delivery", "echo", "welcome"] {
        assert!(number(&latency(&results, kind)["count"]) > 0.0, "{kind}");
    }
}

#[test]
fn json_over_websockets_is_spoken_in_every_scenario() {
    over_websockets("ws-json");
}

#[test]
fn native_frames_over_websockets_are_spoken_in_every_scenario() {
    over_websockets("ws-bin");
}

#[test]
fn a_server_that_opens_no_websocket_is_told_by_its_status() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4_096]);
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer);
            let _ = stream.read(&mut [0; 1]);
        }
    });
    let output = bench(
        &["idle", "-c", "2", "-d", "1s", "--rooms", "1"]
            .into_iter()
            .chain(["--dialect", "ws-json", "--target", &target])
            .collect::<Vec<_>>(),
    );
    let told = text(&output.stderr);
    assert_ne!(output.status.code(), Some(0));
    assert!(told.contains("no WebSocket was opened: HTTP 404"), "{told}");
}

#[test]
fn echo_hears_each_of_its_own_words_once() {
    let arguments = ["echo", "-c", "10", "-r", "100", "-d", "1s", "--warm-up", "200ms"];
    let results = passes("echo", &[&arguments[..], &["--arrivals", "poisson"]].concat());
    assert!(number(&latency(&results, "echo")["count"]) > 20.0);
    assert_eq!(results["storm"], Value::Null);
}

#[test]
fn churn_lets_connections_come_and_go_while_others_chat() {
    let arguments = ["churn", "-c", "20", "--rooms", "2", "-r", "20", "-d", "2s"];
    let more = ["--warm-up", "200ms", "--churn-rate", "20", "--lifetime", "1s"];
    let results = passes("churn", &[&arguments[..], &more].concat());
    // 40 in two seconds, or fewer where the generator was late; more than there are places.
    assert!(number(&results["churn"]["connections"]) > 20.0);
    assert_eq!(number(&results["churn"]["unfinished"]), 0.0);
    assert!(number(&latency(&results, "welcome")["count"]) > 20.0);
}

#[test]
fn storm_brings_everybody_back() {
    let arguments = ["storm", "-c", "100", "--rooms", "5", "--threads", "2", "--resume", "off"];
    let results = passes("storm", &arguments);
    assert_eq!(number(&results["storm"]["connections"]), 100.0);
    assert_eq!(results["storm"]["resume"], Value::Null);
    assert!(number(&results["storm"]["all_back_ms"]) > 0.0);
    assert_eq!(number(&latency(&results, "welcome")["count"]), 100.0);
    assert_eq!(number(&latency(&results, "joined")["count"]), 100.0);
    assert_eq!(number(&results["traffic"]["came"]), 95.0, "all are in their rooms again");
}

/// What a storm tells of sessions: all were resumed, and missed nothing.
fn assert_resumed(results: &Value, sessions: f64) {
    let resume = &results["storm"]["resume"];
    assert_eq!(number(&results["storm"]["connections"]), sessions);
    assert_eq!(number(&resume["resumed"]), sessions);
    assert_eq!(number(&resume["missing"]), 0.0);
    assert_eq!(number(&resume["unaccepted"]), 0.0);
    assert!(number(&resume["replayed"]) > 0.0, "there was something to miss: {resume}");
    let times = ["p50_ms", "p99_ms", "max_ms"].map(|name| number(&resume[name]));
    assert!(times[0] > 0.0 && times[0] <= times[1] && times[1] <= times[2], "{times:?}");
    assert!(number(&resume["accept_all_ms"]) > 0.0);
    assert!(number(&resume["p99_by_accept_all"]) > 0.0);
}

#[test]
fn storm_resumes_every_session_and_nothing_is_missing() {
    let arguments = ["storm", "-c", "105", "--rooms", "5", "--threads", "2", "--workers", "2"];
    for dialect in ["native-crc", "ws-json"] {
        let name = format!("storm-resumed-{dialect}");
        let results = passes(&name, &[&arguments[..], &["--dialect", dialect]].concat());
        // The first publisher of each room stays and speaks.
        assert_resumed(&results, 100.0);
        // Four messages while they were away and one at the end, to each of twenty in five rooms.
        assert_eq!(number(&results["traffic"]["due"]), 500.0);
        assert_eq!(number(&results["traffic"]["came"]), 500.0);
    }
}

#[test]
fn a_server_that_forgets_sessions_fails_the_storm() {
    let arguments = ["storm", "-c", "20", "--rooms", "2", "--serve", "--resume-window 0"];
    let (code, told, json) = measure("storm-forgotten", &arguments);
    assert_eq!(code, Some(1), "{told}");
    let violations = json["violations"].as_array().unwrap();
    let forgotten = violations.iter().find(|violation| violation["kind"] == "forgotten");
    assert_eq!(number(&forgotten.unwrap()["count"]), 18.0, "{told}");
}

#[test]
fn slow_readers_are_dealt_with_and_harm_nobody() {
    let arguments = ["slow", "-c", "20", "--rooms", "1", "-r", "200", "--size", "16KiB"];
    let more = ["-d", "3s", "--warm-up", "200ms", "--serve", "--max-outbound 128KiB"];
    let results = passes("slow", &[&arguments[..], &more].concat());
    assert_eq!(number(&results["slow"]["members"]), 2.0);
    assert_eq!(number(&results["slow"]["dealt_with"]), 2.0);
    assert_eq!(number(&results["traffic"]["delivery_ratio"]), 1.0);
}

#[test]
fn mixed_does_everything_at_once() {
    let arguments = ["mixed", "-c", "50", "--rooms", "2", "-r", "50", "-d", "2s"];
    let more = ["--warm-up", "500ms", "--churn-rate", "10", "--lifetime", "1s"];
    let results = passes("mixed", &[&arguments[..], &more].concat());
    for kind in ["delivery", "echo", "welcome"] {
        assert!(number(&latency(&results, kind)["count"]) > 0.0, "{kind}");
    }
}

#[test]
fn a_closed_loop_keeps_its_messages_under_way_across_threads() {
    let arguments = ["-c", "30", "--rooms", "1", "--in-flight", "4", "-d", "1s"];
    let more = ["--warm-up", "200ms", "--threads", "2"];
    let (code, told, json) = measure("closed", &[&arguments[..], &more].concat());
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(json["run"]["mode"], "closed");
    assert_eq!(json["run"]["in_flight"], 4);
    assert_eq!(json["generator"]["lag_allowed_us"], Value::Null, "nothing is planned");
    // Each message goes to 29 others, and there was more than the first handful.
    assert!(number(&json["results"]["traffic"]["deliveries"]) > 29.0 * 8.0, "{told}");
    assert!(number(&json["results"]["traffic"]["messages_per_write"]) >= 1.0);
}

#[test]
fn the_page_needs_no_other_file() {
    let path = scratch("page.html");
    let file = path.to_str().unwrap();
    let arguments = ["-c", "20", "--rooms", "2", "-r", "40", "-d", "1s", "--warm-up", "200ms"];
    passes("page", &[&arguments[..], &["--html", file]].concat());
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("<svg").count(), 3, "latency, rate and memory");
    for outside in ["<script", "<link", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn a_generator_that_is_too_slow_refuses_to_report() {
    let path = scratch("refused.json");
    let file = path.to_str().unwrap();
    let arguments = ["-c", "20", "--rooms", "2", "-r", "100", "-d", "1s", "--warm-up", "200ms"];
    let output = bench(&[&arguments[..], &["--lag", "0ms", "--json", file]].concat());
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("REFUSED: the generator was the bottleneck"), "{told}");
    assert!(told.contains("ask for less load"), "{told}");
    assert!(!told.contains("p99.9"), "no latencies: {told}");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(json["verdict"], "refused");
    assert_eq!(json["results"], Value::Null);
}

#[test]
fn wrong_requests_are_one_line_and_code_2() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (arguments, words) in [
        (&["gossip"][..], "'gossip'"),
        (&["--connections", "0"], "--connections 0 must lie"),
        (&["--rate", "5", "--in-flight", "1"], "cannot be used with"),
        (&["idle", "--rate", "5"], "in idle nobody sends"),
        (&["idle", "--resume", "on"], "only a storm cuts connections off"),
        (&["storm", "--resume", "on", "--dialect", "text"], "text clients have no sessions"),
        (&["--report-anyway"], "unexpected argument"),
        (&["--target", &unused, "-c", "4", "--rooms", "1"], "or name another with --target"),
        (&["--html", "/nonexistent/report.html"], "there is no folder /nonexistent; make it"),
        (&["--json", "/"], "--json / is a folder; name a file in it"),
        (&["--server-command", "/nonexistent"], "cannot start `/nonexistent`"),
        (&["--serve", "--workers-of-the-world", "-c", "4", "--rooms", "1"], "ended at once"),
    ] {
        let output = bench(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_names_every_scenario_and_exit_code() {
    let output = bench(&["--help"]);
    let help = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for words in ["idle", "broadcast", "echo", "churn", "storm", "slow", "mixed", "Exit codes:"] {
        assert!(help.contains(words), "{words}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

/// A server of the test's own, ended with it.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1"])
            .envs([("RUST_LOG", "info"), ("COREBEAT_OVERLOAD_LAG", "off")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.parse().unwrap()));
        thread::spawn(move || lines.for_each(drop));
        Server { child, address: address.unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_runs_already_is_measured_by_its_process_and_left_alone() {
    let mut server = Server::start();
    let target = server.address.to_string();
    let pid = server.child.id().to_string();
    let arguments = ["-c", "20", "--rooms", "2", "-r", "40", "-d", "1s", "--warm-up", "200ms"];
    let target = ["--target", target.as_str()];
    let without = passes("target", &[&arguments[..], &target].concat());
    assert_eq!(without["server"], Value::Null);
    let with_pid = [&arguments[..], &target, &["--server-pid", pid.as_str()]].concat();
    let with = passes("target-pid", &with_pid);
    assert!(number(&with["server"]["resident_at_rest_bytes"]) > 0.0);
    assert!(server.child.try_wait().unwrap().is_none(), "it still runs");
}

#[test]
fn another_server_is_started_by_its_command() {
    let command = format!("{PROGRAM} serve --listen 127.0.0.1:0 --workers 2");
    let arguments = ["-c", "20", "--rooms", "2", "-r", "40", "-d", "1s", "--warm-up", "200ms"];
    let command = ["--server-command", command.as_str()];
    let results = passes("command", &[&arguments[..], &command].concat());
    assert!(number(&results["server"]["threads"]) >= 3.0, "two workers and a steward");
}

/// What the proxy does to one message.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    Drop,
    Repeat,
    Corrupt,
    CutOff,
    /// Its connection ends behind it, before the generator has looked at either.
    CutOffBehind,
}

/// The generator's process, once it is there.
type Generator = Arc<AtomicU32>;

/// Does something while a process stands still.
fn while_stopped(generator: &Generator, act: impl FnOnce()) {
    let number = generator.load(Ordering::SeqCst);
    let process = Pid::from_raw(number.cast_signed()).expect("it connected");
    kill_process(process, Signal::STOP).unwrap();
    let stands_still = || {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    while !stands_still() {
        thread::yield_now();
    }
    act();
    kill_process(process, Signal::CONT).unwrap();
}

/// Stands between clients and a server, and does its mischief once.
fn proxy(server: SocketAddr, mischief: Mischief, generator: &Generator) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let generator = Arc::clone(generator);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, upstream) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut requests, mut sink) =
                (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut requests, &mut sink);
            });
            let (done, generator) = (Arc::clone(&done), Arc::clone(&generator));
            thread::spawn(move || meddle((upstream, client), mischief, &done, &generator));
        }
    });
    address
}

/// Carries a server's frames to a client, all but one as they are.
fn meddle(
    (mut from, mut to): (TcpStream, TcpStream),
    mischief: Mischief,
    done: &AtomicBool,
    generator: &Generator,
) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    let mut messages = 0;
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..count]);
        while let Ok(Some((frame, length))) = native::frame(&bytes, usize::MAX) {
            let mut out: Vec<u8> = bytes[..length].to_vec();
            messages += usize::from(frame.kind == native::kind::MESSAGE);
            // Not the first: something must have been right before.
            let third = frame.kind == native::kind::MESSAGE && messages == 3;
            if third && !done.swap(true, Ordering::SeqCst) {
                match mischief {
                    Mischief::Drop => out.clear(),
                    Mischief::Repeat => out.extend_from_slice(&bytes[..length]),
                    Mischief::Corrupt => out[length - 1] ^= 1,
                    Mischief::CutOff => {
                        let _ = to.shutdown(Shutdown::Both);
                        return;
                    }
                    Mischief::CutOffBehind => {
                        return while_stopped(generator, || {
                            to.write_all(&out).unwrap();
                            to.shutdown(Shutdown::Both).unwrap();
                        });
                    }
                }
            }
            bytes.drain(..length);
            if to.write_all(&out).is_err() {
                return;
            }
        }
    }
}

#[test]
fn one_wrong_message_among_many_fails_the_run_and_is_told() {
    let server = Server::start();
    for (mischief, kind) in [
        (Mischief::Drop, "lost"),
        (Mischief::Repeat, "duplicate"),
        (Mischief::Corrupt, "corrupt"),
        (Mischief::CutOff, "closed"),
        (Mischief::CutOffBehind, "closed"),
    ] {
        let generator = Generator::default();
        let target = proxy(server.address, mischief, &generator).to_string();
        let arguments = ["-c", "10", "--rooms", "1", "-r", "40", "-d", "1s", "--warm-up", "200ms"];
        let more = ["--target", target.as_str(), "--patience", "5s"];
        let arguments = [&arguments[..], &more].concat();
        let path = scratch(&format!("{kind}.json"));
        let file = path.to_str().unwrap();
        let open = ["--lag", "1m", "--busy", "100", "--json", file];
        let mut command = bench_command(&[&arguments[..], &open].concat());
        let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        generator.store(run.id(), Ordering::SeqCst);
        let output = run.wait_with_output().unwrap();
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{mischief:?}: {told}");
        assert!(told.contains("FAILED: the server broke the contract"), "{told}");
        let json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(json["verdict"], "failed");
        let violations = json["violations"].as_array().unwrap();
        let count = |kind| violations.iter().find(|case| case["kind"] == kind);
        let count = count(kind).unwrap_or_else(|| panic!("{mischief:?}: {told}"));
        assert_eq!(number(&count["count"]), 1.0, "{told}");
        assert_eq!(violations.len(), 1, "and nothing else is wrong: {told}");
    }
}
