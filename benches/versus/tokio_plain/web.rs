//! A connection that has become a WebSocket.
//!
//! Owns the socket with tungstenite around it, in its two halves, and the end of the closing
//! handshake. What is said on it is the [`connection`](super::connection)'s affair.

use std::sync::Arc;
use std::time::Duration;

use corebeat::base::limits::LINGER_MS;
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::codec::{Broken, Inbound};
use super::common::dialect::Dialect;
use super::common::websocket;
use super::connection::{Connection, discard};
use super::hub::Hub;
use super::peer::{Outbound, Peer};
use super::writer::{self, GATHERED};

/// The sending half.
pub type WebSink = SplitSink<WebSocketStream<TcpStream>, Message>;

/// The memory that an idle connection keeps for reading. By itself tungstenite takes 128 KiB.
const READ_BUFFER: usize = 1 << 10;

/// Serves `stream`, of which `part` was read behind the opening handshake, until it ends. `guest`
/// is what the hub knew it as before.
pub async fn serve(
    stream: TcpStream,
    part: Vec<u8>,
    dialect: Dialect,
    hub: Arc<Hub>,
    guest: Arc<Peer>,
) {
    let config = websocket::config(&hub.service.limits, READ_BUFFER, GATHERED);
    let socket =
        WebSocketStream::from_partially_read(stream, part, Role::Server, Some(config)).await;
    let (sink, messages) = socket.split();
    let mut inbound =
        messages.map(|message| message.map(Inbound::Message).map_err(Broken::WebSocket));
    let (outbound, queue) = unbounded_channel();
    let peer = hub.admit(Outbound::Messages(outbound));
    hub.dismiss(&guest);
    let mut writer = tokio::spawn(writer::write_messages(sink, queue, Arc::clone(&peer)));
    let mut connection = Connection::new(Arc::clone(&hub), Arc::clone(&peer), dialect);
    connection.converse(&mut inbound).await;
    connection.end();
    let farewell = async {
        let Ok(sink) = (&mut writer).await else {
            return;
        };
        let Ok(socket) = inbound.into_inner().reunite(sink) else {
            return;
        };
        // What is left of the socket is read past tungstenite, which has no more to say.
        let mut stream = socket.into_inner();
        if stream.shutdown().await.is_ok() {
            discard(stream).await;
        }
    };
    if timeout(Duration::from_millis(LINGER_MS), farewell).await.is_err() {
        writer.abort();
    }
    hub.dismiss(&peer);
}
