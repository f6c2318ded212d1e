//! As much of HTTP/1.1 as a scraper needs: one GET or HEAD on a connection, with limits and a
//! deadline. The small servers for Rust have no timeout for a client that sends byte by byte.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::exposition::Format;
use crate::process::name::renamed;

/// The longest head of a request.
const MAX_HEAD: usize = 8 << 10;
/// How long a client may take to send its request, and to read the answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that was refused may take to end its request.
const LINGER: Duration = Duration::from_millis(200);

/// A connection with timeouts.
pub(super) trait Connection: Read + Write {
    /// Sets how long one read and one write may take.
    ///
    /// # Errors
    /// When the system refuses it.
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
}

/// A request for the metrics.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) accept: Option<String>,
    is_head: bool,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Response {
    /// Returns metrics.
    pub(super) fn metrics(format: Format, body: String) -> Self {
        Self { status: "200 OK", content_type: format.content_type(), body }
    }

    /// Returns that there are none.
    pub(super) fn failed(why: &str) -> Self {
        Self::plain("500 Internal Server Error", why)
    }

    fn plain(status: &'static str, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }
}

/// Reads a request and answers it. `metrics` makes the answer to a good one.
///
/// # Errors
/// When the client is gone, or takes too long.
pub(super) fn serve(
    connection: &mut impl Connection,
    metrics: &dyn Fn(&Request) -> Response,
) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let head = read_head(connection, deadline)?;
    let (response, has_body) = match head.as_deref().map_or(Err(None), parse) {
        Ok(request) => (metrics(&request), !request.is_head),
        Err(Some(refusal)) => (refusal, true),
        Err(None) => (
            Response::plain("431 Request Header Fields Too Large", "the request is too long"),
            true,
        ),
    };
    let Response { status, content_type, body } = &response;
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}\
         Connection: close\r\n\r\n",
        body.len()
    );
    if has_body {
        answer.push_str(body);
    }
    let deadline = Instant::now() + TIMEOUT;
    let mut rest = answer.as_bytes();
    while !rest.is_empty() {
        connection.set_timeout(left(deadline)?)?;
        match connection.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if !status.starts_with("200") {
        // What is still unread would reset the connection before the answer is read.
        let end = Instant::now() + LINGER;
        while let Ok(left) = left(end) {
            connection.set_timeout(left)?;
            if !matches!(connection.read(&mut [0; 4096]), Ok(1..)) {
                break;
            }
        }
    }
    Ok(())
}

/// Returns the time until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads the head of a request; `None` when it is too long.
fn read_head(connection: &mut impl Connection, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while head.len() < MAX_HEAD {
        connection.set_timeout(left(deadline)?)?;
        match connection.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                // The end may have begun before.
                let from = head.len().saturating_sub(3);
                head.extend_from_slice(&bytes[..count]);
                if let Some(end) = head[from..].windows(4).position(|window| window == b"\r\n\r\n")
                {
                    head.truncate(from + end);
                    return Ok(Some(head));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads the head of a request.
///
/// # Errors
/// The answer to a request that is not one for the metrics.
fn parse(head: &[u8]) -> Result<Request, Option<Response>> {
    let bad = || Some(Response::plain("400 Bad Request", "that is no request of HTTP/1.1"));
    let head = std::str::from_utf8(head).map_err(|_| bad())?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Err(bad()) };
    if !version.starts_with("HTTP/1.") || !target.starts_with(['/', 'h']) {
        return Err(bad());
    }
    let headers: Vec<(&str, &str)> =
        lines.map(|line| line.split_once(':').ok_or_else(bad)).collect::<Result<_, _>>()?;
    if !["GET", "HEAD"].contains(&method) {
        let why = "only GET and HEAD are answered";
        return Err(Some(Response::plain("405 Method Not Allowed", why)));
    }
    let path = target.split('?').next().unwrap_or_default();
    if path == "/" {
        return Err(Some(Response::plain("200 OK", &renamed("busctl metrics: see /metrics"))));
    }
    if path != "/metrics" {
        return Err(Some(Response::plain("404 Not Found", "the metrics are at /metrics")));
    }
    let accept: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("accept"))
        .map(|(_, value)| value.trim())
        .collect();
    let accept = (!accept.is_empty()).then(|| accept.join(","));
    Ok(Request { accept, is_head: method == "HEAD" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection whose client sends `input` a byte at a time.
    struct Script {
        input: Vec<u8>,
        at: usize,
        output: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let Some(byte) = self.input.get(self.at) else { return Ok(0) };
            bytes[0] = *byte;
            self.at += 1;
            Ok(1)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(7);
            self.output.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Connection for Script {
        fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
            assert!(!timeout.is_zero());
            Ok(())
        }
    }

    fn answer(request: &str) -> io::Result<String> {
        let mut script = Script { input: request.into(), at: 0, output: Vec::new() };
        serve(&mut script, &|request| {
            let format = Format::accepted(request.accept.as_deref());
            Response::metrics(format, "a 1\n".to_owned())
        })?;
        Ok(String::from_utf8(script.output).expect("text"))
    }

    #[test]
    fn a_scraper_is_answered() {
        let text = answer("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("an answer");
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: 4\r\nConnection: close\r\n\r\na 1\n"
        );
        let open = "GET /metrics?x=1 HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n";
        assert!(
            answer(open).expect("an answer").contains("Content-Type: application/openmetrics-text")
        );
        let head = answer("HEAD /metrics HTTP/1.0\r\n\r\n").expect("an answer");
        assert!(head.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\n"), "{head}");
    }

    #[test]
    fn other_requests_are_refused() {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD));
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "200"),
            ("GET /other HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "405"),
            ("\r\n\r\n", "400"),
            ("GET /metrics\r\n\r\n", "400"),
            ("GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", "400"),
            ("GET /metrics SPDY/3\r\n\r\n", "400"),
            (&*long, "431"),
        ] {
            let text = answer(request).expect("an answer");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {text}");
        }
        assert!(answer("GET /metrics HTTP/1.1\r\nHost").is_err(), "the client is gone");
    }
}
