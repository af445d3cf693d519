//! Drives the state machine of rustls until it needs more input: ciphertext in, plaintext and answers out. Without
//! sockets.

use rustix::io::Errno;
use rustls::Error;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

/// The result of handling ciphertext.
pub(crate) struct Pumped {
    /// Bytes that are used up.
    pub used: usize,
    /// The peer sends no more.
    pub closed: bool,
    /// The session has failed. The alert is in `out`.
    pub error: Option<Error>,
}

/// Handles all whole records in `cipher`. Plaintext goes to `take`, early data marked as such; what has to be
/// sent is appended to `out`.
pub(crate) fn pump(
    session: &mut UnbufferedServerConnection,
    cipher: &mut [u8],
    take: &mut dyn FnMut(&[u8], bool),
    out: &mut Vec<u8>,
) -> Pumped {
    let mut pumped = Pumped { used: 0, closed: false, error: None };
    loop {
        let UnbufferedStatus { discard, state } = session.process_tls_records(&mut cipher[pumped.used..]);
        pumped.used += discard;
        match state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    match record {
                        Ok(record) => {
                            pumped.used += record.discard;
                            take(record.payload, false);
                        }
                        Err(error) => pumped.error = Some(error),
                    }
                }
            }
            Ok(ConnectionState::ReadEarlyData(mut records)) => {
                while let Some(record) = records.next_record() {
                    match record {
                        Ok(record) => {
                            pumped.used += record.discard;
                            take(record.payload, true);
                        }
                        Err(error) => pumped.error = Some(error),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut answer)) => encode(&mut answer, out),
            Ok(ConnectionState::TransmitTlsData(answer)) => answer.done(),
            Ok(ConnectionState::PeerClosed) => pumped.closed = true,
            Ok(_) => return pumped,
            Err(error) => pumped.error = Some(error),
        }
        if pumped.error.is_some() {
            encode_alert(session, &mut cipher[pumped.used..], out);
            return pumped;
        }
    }
}

/// Appends what has to be sent before an error, and its alert. The same bytes are offered again, since the session refers to
/// positions in them. It is not called more often than it has something to send: it would judge the bytes again.
fn encode_alert(session: &mut UnbufferedServerConnection, cipher: &mut [u8], out: &mut Vec<u8>) {
    while session.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(mut alert)) = session.process_tls_records(cipher).state
    {
        encode(&mut alert, out);
    }
}

fn encode(answer: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = answer.encode(&mut []) {
        out.resize(at + required_size, 0);
        let _ = answer.encode(&mut out[at..]);
    }
}

/// The beginning of an incomplete record. The session refers to positions in it, so it is offered with every call.
pub(crate) struct Partial<'a>(pub &'a mut Vec<u8>);

/// Appends `bytes` to `out` as records, each as full as there are bytes. False: the handshake does not allow it yet.
pub(crate) fn encrypt(
    session: &mut UnbufferedServerConnection,
    partial: Partial<'_>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<bool, Errno> {
    let mut result = Ok(());
    let mut encrypted = |mut traffic: WriteTraffic<'_, ServerConnectionData>, out: &mut Vec<u8>| {
        let at = out.len();
        if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) =
            traffic.encrypt(bytes, &mut [])
        {
            out.resize(at + required_size, 0);
            result = traffic.encrypt(bytes, &mut out[at..]).map(|n| out.truncate(at + n)).map_err(|_| Errno::PIPE);
        } else {
            // No key may encrypt any more (RFC 8446, section 5.5).
            result = Err(Errno::PIPE);
        }
    };
    let ready = when_ready(session, partial, out, &mut encrypted);
    result.map(|()| ready)
}

/// Appends close_notify to `out`, if the session allows it yet.
pub(crate) fn close(session: &mut UnbufferedServerConnection, partial: Partial<'_>, out: &mut Vec<u8>) {
    when_ready(session, partial, out, &mut |mut traffic, out| {
        let at = out.len();
        if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) =
            traffic.queue_close_notify(&mut [])
        {
            out.resize(at + required_size, 0);
            let n = traffic.queue_close_notify(&mut out[at..]).unwrap_or(0);
            out.truncate(at + n);
        }
    });
}

/// Calls `act` if the session may write, after what the session itself has to send. False if it may not.
fn when_ready(
    session: &mut UnbufferedServerConnection,
    Partial(partial): Partial<'_>,
    out: &mut Vec<u8>,
    act: &mut dyn FnMut(WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>),
) -> bool {
    loop {
        let UnbufferedStatus { discard, state } = session.process_tls_records(partial);
        let ready = match state {
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                act(traffic, out);
                Some(true)
            }
            Ok(ConnectionState::EncodeTlsData(mut answer)) => {
                encode(&mut answer, out);
                None
            }
            Ok(ConnectionState::TransmitTlsData(answer)) => {
                answer.done();
                None
            }
            Ok(ConnectionState::PeerClosed) => None,
            _ => Some(false),
        };
        if discard > 0 {
            partial.drain(..discard.min(partial.len()));
        }
        if let Some(ready) = ready {
            return ready;
        }
    }
}
