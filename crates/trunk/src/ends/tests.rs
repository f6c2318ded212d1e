//! Some ends without a network: datagrams and messages are handed over by the test.

use std::sync::mpsc::Receiver;

use super::*;

const START: &str = "10.0.0.";

/// One end, and what a port would hold for it.
struct Site {
    ends: Ends,
    remotes: Remotes,
    messages: Receiver<Message>,
    exchange: Arc<Exchange>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

fn token(id: u64) -> Token {
    let address = format!("{START}{id}:4789").parse().ok();
    Token { id: EndId(id), vni: 42, address, host: format!("h{id}") }
}

impl Site {
    fn new(id: u64, via: Via) -> Self {
        let (exchange, outgoing, messages) = Exchange::new().expect("a descriptor");
        let exchange = Arc::new(exchange);
        let mut ends = Ends::new(EndId(id), 42, via, false, Arc::clone(&exchange), outgoing);
        ends.attach(1_514);
        ends.set_local(Ok(token(id).address));
        let remotes = Remotes::of_overlay(None);
        Self { ends, remotes, messages, exchange, sent: Vec::new() }
    }

    fn advance(&mut self, now: Instant) {
        let sent = &mut self.sent;
        self.ends.advance(now, &mut self.remotes, &mut |to, bytes| sent.push((to, bytes.to_vec())));
    }

    fn state(&self, id: u64) -> Option<State> {
        let number = self.ends.numbers.get(&EndId(id))?;
        Some(self.ends.all[*number].as_ref()?.way.state())
    }

    fn number(&self, id: u64) -> usize {
        self.ends.numbers[&EndId(id)]
    }

    fn lines(&mut self) -> String {
        let mut lines = String::new();
        self.ends.report(&mut |line| lines.push_str(line));
        lines
    }
}

/// Hands over what the ends have sent to each other, for a while.
fn run(sites: &mut [Site], now: &mut Instant, time: Duration, passes: bool) {
    let end = *now + time;
    while *now < end {
        *now += Duration::from_millis(10);
        for number in 0..sites.len() {
            sites[number].advance(*now);
            let from = sites[number].ends.id.0;
            let sent: Vec<_> = sites[number].sent.drain(..).collect();
            for (to, datagram) in sent.into_iter().filter(|_| passes) {
                let sender = token(from).address.unwrap().ip();
                for site in
                    sites.iter_mut().filter(|site| token(site.ends.id.0).address == Some(to))
                {
                    assert!(site.ends.take_datagram(&datagram, sender, *now, &mut site.remotes));
                }
            }
        }
    }
}

fn two(via: Via) -> [Site; 2] {
    let mut sites = [Site::new(1, via), Site::new(2, via)];
    sites[0].exchange.came(token(2));
    sites[1].exchange.came(token(1));
    // A question of an end that is not known yet has no answer.
    sites[1].advance(Instant::now());
    sites
}

#[test]
fn two_ends_agree_on_datagrams_and_go_back_to_messages() {
    let (mut sites, mut now) = (two(Via::Auto), Instant::now());
    sites[0].advance(now);
    let number = sites[0].number(2);
    assert_eq!(sites[0].state(2), Some(State::Relayed));
    assert!(sites[0].ends.relay(number, &[7; 60], now));
    let question = &sites[0].sent[0];
    assert_eq!(
        (question.0, question.1.len()),
        (token(2).address.unwrap(), 1_522),
        "as long as a frame"
    );
    // The message has not arrived yet, so the end does not agree for a moment.
    run(&mut sites, &mut now, Duration::from_millis(100), true);
    assert_eq!(sites[0].state(2), Some(State::Held));
    assert_eq!(sites[1].state(1), Some(State::Direct), "nothing was sent there");
    assert!(sites[0].ends.relay(number, &[8; 60], now), "held back");
    let message = sites[0].messages.try_recv().expect("the first frame");
    assert_eq!(message.to, EndId(2));
    sites[1].exchange.received(EndId(1), message.bytes);
    let Site { ends, remotes, .. } = &mut sites[1];
    assert_eq!(ends.take_batch(remotes), Some(0));
    assert_eq!(&ends.batch().0[ends.batch().1[0].clone()], &[7; 60]);
    run(&mut sites, &mut now, Duration::from_millis(100), true);
    assert_eq!(sites[0].state(2), Some(State::Direct));
    let mut released = Vec::new();
    sites[0].ends.release(&mut |to, frame| released.push((to, frame.to_vec())));
    assert_eq!(released, [(number, vec![8; 60])]);
    run(&mut sites, &mut now, Duration::from_secs(3), false);
    assert_eq!(
        (sites[0].state(2), sites[1].state(1)),
        (Some(State::Relayed), Some(State::Relayed))
    );
    run(&mut sites, &mut now, Duration::from_secs(3), true);
    assert_eq!((sites[0].state(2), sites[1].state(1)), (Some(State::Direct), Some(State::Direct)));
}

#[test]
fn an_end_stays_while_it_answers_and_goes_with_its_token_otherwise() {
    let (mut sites, mut now) = (two(Via::Auto), Instant::now());
    run(&mut sites, &mut now, Duration::from_millis(500), true);
    assert_eq!(sites[0].state(2), Some(State::Direct));
    sites[0].exchange.all_went();
    run(&mut sites, &mut now, Duration::from_secs(5), true);
    assert_eq!(sites[0].state(2), Some(State::Direct), "the router is away, the end is not");
    run(&mut sites, &mut now, Duration::from_secs(3), false);
    assert_eq!(sites[0].state(2), None);
    assert_eq!(sites[1].state(1), Some(State::Relayed), "its token is there");
    sites[1].exchange.went(&token(1));
    run(&mut sites, &mut now, Duration::from_millis(20), true);
    assert_eq!(sites[1].state(1), None);
}

#[test]
fn only_those_that_may_be_reached_are_probed() {
    let mut site = Site::new(1, Via::Auto);
    let mut other_vni = token(2);
    other_vni.vni = 43;
    let mut here = token(3);
    here.address = "10.0.0.1:4790".parse().ok();
    let mut nowhere = token(4);
    nowhere.address = None;
    let mut v6 = token(5);
    v6.address = "[fd00::5]:4789".parse().ok();
    for token in [other_vni, here, nowhere, v6, token(1), token(6)] {
        site.exchange.came(token);
    }
    site.advance(Instant::now());
    let probed: Vec<SocketAddr> = site.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(probed, [token(6).address.unwrap()]);
    assert_eq!(site.ends.numbers.len(), 5, "all but itself");
    assert!(site.lines().contains("has vni=43 and this one vni=42"));
}

#[test]
fn probes_of_strangers_are_not_answered() {
    let (mut sites, now) = (two(Via::Auto), Instant::now());
    sites[0].advance(now);
    let question = sites[0].sent.pop().expect("one").1;
    let Site { ends, remotes, .. } = &mut sites[1];
    let peer = token(1).address.unwrap().ip();
    let stranger = token(9).address.unwrap().ip();
    assert!(!ends.take_datagram(&question, stranger, now, remotes));
    assert!(ends.answers.is_empty());
    for _ in 0..1_000 {
        assert!(ends.take_datagram(&question, peer, now, remotes));
    }
    assert_eq!(ends.answers.len(), MAX_ANSWERS);
    let mut other_vni = question.clone();
    other_vni[6] ^= 1;
    assert!(!ends.take_datagram(&other_vni, peer, now, remotes));
}

#[test]
fn ends_that_share_an_address_are_told_and_relayed_to() {
    let (mut sites, mut now) = (two(Via::Auto), Instant::now());
    run(&mut sites, &mut now, Duration::from_millis(500), true);
    // Another end on the second machine, which answers, too.
    let mut rival = token(2);
    rival.id = EndId(3);
    sites[0].exchange.came(rival);
    sites[0].advance(now);
    let number = sites[0].number(3);
    let asked = sites[0].sent.last().expect("it is asked").1.clone();
    let probe = Probe::parse(&asked).expect("a probe");
    assert_eq!(probe.to, EndId(3));
    let answer = Probe { kind: Kind::Answer, from: probe.to, to: probe.from, ..probe };
    let question = Probe { kind: Kind::Question, stamp: 5, era: 1, ..answer };
    let Site { ends, remotes, .. } = &mut sites[0];
    let sender = token(2).address.unwrap().ip();
    assert!(ends.take_datagram(&question.to_datagram(0), sender, now, remotes));
    let refusal = Probe::parse(&ends.answers.pop().expect("an answer").1).expect("a probe");
    assert_eq!((refusal.kind, refusal.to), (Kind::Refusal, EndId(3)));
    assert!(!ends.all[number].as_ref().expect("there").incoming.is_direct());
}

#[test]
fn a_message_is_full_or_a_millisecond_old() {
    let (mut sites, now) = (two(Via::Zenoh), Instant::now());
    let site = &mut sites[0];
    site.advance(now);
    let number = site.number(2);
    assert!(site.sent.is_empty(), "no probes");
    for _ in 0..FULL_FRAMES - 1 {
        assert!(site.ends.relay(number, &[7; 60], now));
    }
    site.advance(now);
    assert!(site.messages.try_recv().is_err());
    assert_eq!(site.ends.due(), Some(now + MAX_AGE));
    assert!(site.ends.relay(number, &[7; 60], now));
    let read = |message: Message| {
        let mut frames = Vec::new();
        let place = batch::read(&message.bytes, &mut frames).expect("a message");
        (place.number, frames.len())
    };
    assert_eq!(site.messages.try_recv().map(read), Ok((1, FULL_FRAMES)));
    assert!(site.ends.relay(number, &[7; 60], now));
    site.advance(now + MAX_AGE);
    assert_eq!(site.messages.try_recv().map(read), Ok((2, 1)));
    // A network that takes nothing is not waited for.
    let taken = (0..100_000).take_while(|_| site.ends.relay(number, &[7; 60], now)).count();
    assert!(taken < 100_000 || site.ends.all[number].as_ref().expect("there").unsent > 0);
}

#[test]
fn with_datagrams_only_frames_are_no_messages() {
    let (mut sites, mut now) = (two(Via::Vxlan), Instant::now());
    sites[0].advance(now);
    let number = sites[0].number(2);
    assert!(!sites[0].ends.relay(number, &[7; 60], now));
    run(&mut sites, &mut now, Duration::from_millis(200), true);
    assert_eq!(sites[0].state(2), Some(State::Direct));
    assert!(sites[0].messages.try_recv().is_err());
    let mut batch = Batch::default();
    batch.push(&[7; 60], MAX_MESSAGE);
    let message = batch.finish(Place { era: 9, number: 1 });
    sites[0].exchange.received(EndId(2), message);
    let Site { ends, remotes, .. } = &mut sites[0];
    assert_eq!((ends.take_batch(remotes), ends.take_dropped()), (None, 1));
}

#[test]
fn ends_that_come_and_go_leave_nothing() {
    let (mut site, mut now) = (Site::new(1, Via::Auto), Instant::now());
    for round in 0..100 {
        for id in 2..12 {
            let mut token = token(id);
            token.id = EndId(round * 100 + id);
            site.exchange.came(token);
        }
        now += Duration::from_millis(700);
        site.advance(now);
        assert_eq!(site.ends.numbers.len(), 10);
        let number = site.number(round * 100 + 5);
        site.ends.relay(number, &[7; 60], now);
        site.exchange.all_went();
        site.advance(now);
        site.sent.clear();
    }
    assert!(site.ends.numbers.is_empty() && site.ends.all.iter().all(Option::is_none));
    assert!(site.ends.all.len() <= 1_000);
}

#[test]
fn a_machine_with_another_address_is_another_way() {
    let (mut sites, mut now) = (two(Via::Auto), Instant::now());
    run(&mut sites, &mut now, Duration::from_millis(500), true);
    sites[0].ends.set_local(Ok("10.0.0.77:4789".parse().ok()));
    assert_eq!(sites[0].exchange.local(), "10.0.0.77:4789".parse().ok());
    sites[0].advance(now);
    assert_eq!(sites[0].state(2), Some(State::Relayed));
    let mut moved = token(1);
    moved.address = "10.0.0.77:4789".parse().ok();
    sites[1].exchange.came(moved);
    sites[1].advance(now);
    assert_eq!(sites[1].state(1), Some(State::Relayed));
    assert_eq!(
        sites[1].sent.last().map(|(to, _)| to.to_string()),
        Some("10.0.0.77:4789".to_owned())
    );
    // A port that is in use, and any will do.
    sites[0].exchange.want("10.0.0.77:4789".parse().ok());
    sites[0].ends.set_local(Err(io::ErrorKind::AddrInUse.into()));
    assert_eq!(sites[0].ends.local(), "10.0.0.77:0".parse().ok());
    sites[0].ends.set_local(Err(io::ErrorKind::AddrNotAvailable.into()));
    assert!(sites[0].lines().contains("cannot receive at 10.0.0.77:4789"));
    sites[0].exchange.say("a word of the other thread".to_owned());
    assert_eq!(sites[0].lines(), "a word of the other thread");
}
