//! What `ping`(8) prints.

/// Returns the round trips, in microseconds, of the replies that were in time.
#[must_use]
pub fn round_trips(output: &str) -> Vec<f64> {
    output.lines().filter_map(round_trip).collect()
}

/// Returns the round trip in the line of a reply.
fn round_trip(line: &str) -> Option<f64> {
    // A late or second reply is marked, and has a time of its own.
    if !line.contains("bytes from") || line.ends_with(')') {
        return None;
    }
    let (number, unit) = line.rsplit_once("time=")?.1.split_once(' ')?;
    match unit {
        "ms" => Some(number.parse::<f64>().ok()? * 1e3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_times_and_the_rest_does_not() {
        let output = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\
                      64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.125 ms\n\
                      64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=12.5 ms\n\
                      64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=12.6 ms (DUP!)\n\
                      From 10.0.0.1 icmp_seq=3 Destination Host Unreachable\n\
                      \n--- 10.0.0.2 ping statistics ---\n\
                      3 packets transmitted, 2 received, 33.3% packet loss, time 10ms\n\
                      rtt min/avg/max/mdev = 0.125/0.125/12.5/0.000 ms\n";
        assert_eq!(round_trips(output), [125.0, 12_500.0]);
        assert_eq!(round_trips("ping: socket: Operation not permitted\n"), [0.0; 0]);
    }
}
