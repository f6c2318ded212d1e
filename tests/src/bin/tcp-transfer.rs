//! One end of a TCP connection that carries a known sequence of bytes. `tcp-transfer receive
//! ADDRESS:PORT BYTES` prints `listening`, accepts one connection, compares every byte, and prints
//! `whole`. `tcp-transfer send ADDRESS:PORT BYTES` connects and sends the bytes.

use std::error::Error;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};

/// Bytes generated at a time.
const PIECE: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, address, bytes] = args.as_slice() else {
        return Err("say send or receive, ADDRESS:PORT, BYTES".into());
    };
    let mut left: usize = bytes.parse()?;
    // Random, so that a misplaced piece is detected.
    let mut random = fastrand::Rng::with_seed(left as u64);
    let mut piece = vec![0; PIECE];
    match what.as_str() {
        "send" => {
            let mut stream = TcpStream::connect(address)?;
            while left > 0 {
                let piece = &mut piece[..left.min(PIECE)];
                random.fill(piece);
                stream.write_all(piece)?;
                left -= piece.len();
            }
        }
        "receive" => {
            let listener = TcpListener::bind(address)?;
            println!("listening");
            let (mut stream, _) = listener.accept()?;
            let mut received = vec![0; PIECE];
            while left > 0 {
                let len = left.min(PIECE);
                stream.read_exact(&mut received[..len])?;
                random.fill(&mut piece[..len]);
                if received[..len] != piece[..len] {
                    return Err(format!("wrong within the last {left} bytes").into());
                }
                left -= len;
            }
            if stream.read(&mut received)? > 0 {
                return Err("more than was sent".into());
            }
            println!("whole");
        }
        _ => return Err("say send or receive".into()),
    }
    Ok(())
}
