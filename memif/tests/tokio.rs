//! Both endpoints and a queue in one tokio runtime.

#![cfg(feature = "tokio")]

mod common;

use std::time::Duration;

use common::*;
use memif::tokio::Async;
use memif::{Client, ClientOptions, Event, InterfaceOptions, LinkError, Server, SocketOptions};

#[tokio::test]
async fn events_and_packets_are_awaited() {
    let addr = unique("tokio");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    let mut server = Async::new(server).unwrap();
    let mut client = Async::new(Client::new(&addr, ClientOptions::new(0)).unwrap()).unwrap();
    let (here, there) = tokio::join!(server.event(), client.event());
    let (Event::Connected { link: mut here, .. }, Event::Connected { link: mut there, .. }) =
        (here.unwrap(), there.unwrap())
    else {
        panic!("not connected")
    };
    let mut queue = Async::new(here.rx.remove(0)).unwrap();
    let counting = tokio::spawn(async move {
        let mut received = 0;
        while received < 1_000 {
            queue.packets().await.unwrap();
            received += queue.get_mut().burst(64).unwrap().len();
        }
        (queue, received)
    });
    for _ in 0..1_000 {
        let mut burst = there.tx[0].burst().unwrap();
        burst.push(&[1; 60]);
        burst.publish();
        tokio::task::yield_now().await;
    }
    let (mut queue, received) = counting.await.unwrap();
    assert_eq!(received, 1_000);

    let sleeper = tokio::spawn(async move { queue.packets().await });
    tokio::task::yield_now().await;
    client.get_mut().disconnect("done");
    assert!(matches!(server.event().await.unwrap(), Event::Disconnected { .. }));
    assert_eq!(sleeper.await.unwrap(), Err(LinkError::Down));
    drop(client.into_inner());
}

/// The runtime hears of changes only, and of those that come together it may hear once.
#[tokio::test]
async fn who_comes_in_a_crowd_is_served_as_well() {
    let addr = unique("tokio-crowd");
    // Its patience with them would wake it, too.
    let options =
        SocketOptions::new().max_pending(1_000).connect_timeout(Duration::from_secs(3_600));
    let mut server = Server::bind(&addr, options).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    let mut server = Async::new(server).unwrap();
    let crowd: Vec<Mock> = (0..300).map(|_| Mock::connect(&addr)).collect();
    let all = async {
        for mock in &crowd {
            while mock.receive() != Some(Received::Hello) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        event = server.event() => panic!("{event:?}"),
        () = tokio::time::sleep(WAIT_TIMEOUT) => panic!("not all were greeted"),
        () = all => {}
    }
}
