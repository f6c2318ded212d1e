//! The rate of the kernel's TCP. `tcp-rate receive ADDRESS:PORT` prints `listening`, accepts one
//! connection, discards what comes until its end, and prints the bits a second. `tcp-rate send
//! ADDRESS:PORT SECONDS` connects, sends for that time, and waits until the receiver has it all.

use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of one system call: many segments, so that the calls do not set the rate.
const PIECE: usize = 256 * 1_024;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["receive", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening");
            let (stream, _) = listener.accept()?;
            println!("{}", receive(stream)?);
            Ok(())
        }
        ["send", address, seconds] => {
            let time = Duration::try_from_secs_f64(seconds.parse()?)?;
            send(TcpStream::connect(address)?, time)?;
            Ok(())
        }
        _ => Err("say receive ADDRESS:PORT or send ADDRESS:PORT SECONDS".into()),
    }
}

/// Returns the bits a second from the beginning of a connection to its end.
fn receive(mut stream: TcpStream) -> std::io::Result<f64> {
    let (begin, mut bytes, mut piece) = (Instant::now(), 0, vec![0; PIECE]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(bytes as f64 * 8.0 / begin.elapsed().as_secs_f64()),
            Ok(len) => bytes += len,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// Sends zeros for `time`.
fn send(mut stream: TcpStream, time: Duration) -> std::io::Result<()> {
    let (begin, piece) = (Instant::now(), vec![0; PIECE]);
    while begin.elapsed() < time {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    // The receiver closes the connection when it has met its end.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
