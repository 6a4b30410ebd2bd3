//! The wire of xenstore, pinned byte for byte, and what it makes of nonsense.

use proptest::prelude::*;
use xenvelope_grant::DomId;
use xenvelope_xen::wire::*;

fn encoded(request: &Request<'_>, id: u32, transaction: u32) -> Vec<u8> {
    let mut out = [0; MESSAGE_MAX];
    let length = request.encode(id, transaction, &mut out).unwrap();
    out[..length].to_vec()
}

/// What the assembler makes of bytes that come in pieces of that size: the messages.
fn assembled(bytes: &[u8], piece: usize) -> Result<Vec<(Header, Vec<u8>)>, WireError> {
    let mut assembler = Assembler::new();
    let mut messages = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(message) = assembler.push(&mut input)? {
            messages.push((message.header, message.payload.to_vec()));
        }
        assert!(input.is_empty());
    }
    Ok(messages)
}

#[test]
fn requests_are_these_bytes() {
    let owner = Permission { access: Access::Nothing, domid: DomId(5) };
    let reader = Permission { access: Access::Read, domid: DomId(65535) };
    let permissions = PermissionsText::new(&[owner, reader]).unwrap();
    let permissions = permissions.permissions();
    let vectors: [(Request<'_>, u8, &[u8]); 15] = [
        (Request::Directory { path: "device" }, 1, b"device\0"),
        (Request::Read { path: "/a/b" }, 2, b"/a/b\0"),
        (Request::GetPermissions { path: "x" }, 3, b"x\0"),
        (Request::Watch { path: "@releaseDomain", token: "7" }, 4, b"@releaseDomain\x007\0"),
        (Request::Unwatch { path: "x", token: "4294967295" }, 5, b"x\x004294967295\0"),
        (Request::TransactionStart, 6, b"\0"),
        (Request::TransactionEnd { commit: true }, 7, b"T\0"),
        (Request::TransactionEnd { commit: false }, 7, b"F\0"),
        (Request::Write { path: "x/state", value: b"4" }, 11, b"x/state\x004"),
        (Request::MakeDirectory { path: "x" }, 12, b"x\0"),
        (Request::Remove { path: "x" }, 13, b"x\0"),
        (Request::SetPermissions { path: "x", permissions }, 14, b"x\0n5\0r65535\0"),
        (Request::DirectoryPart { path: "/", offset: 3000 }, 22, b"/\x003000\0"),
        (Request::GetDomainPath { domid: DomId(7) }, 10, b"7\0"),
        (Request::IsDomainIntroduced { domid: DomId(32751) }, 17, b"32751\0"),
    ];
    for (request, kind, payload) in vectors {
        let mut expected = vec![kind, 0, 0, 0, 0x78, 0x56, 0x34, 0x12, 9, 0, 0, 0];
        expected.extend([u8::try_from(payload.len()).unwrap(), 0, 0, 0]);
        expected.extend(payload);
        assert_eq!(encoded(&request, 0x1234_5678, 9), expected, "{request:?}");
        assert_eq!(Request::parse(kind.into(), payload), Ok(request));
    }
    assert_eq!(encoded(&Request::ResetWatches, 0, 0)[0], 21);
}

#[test]
fn replies_are_these_bytes() {
    let mut out = [0; 64];
    let event = Event { path: "device/vif/0/state", token: "3" };
    let length = encode_event(&mut out, event).unwrap();
    assert_eq!(&out[..length], b"\x0f\0\0\0\0\0\0\0\0\0\0\0\x15\0\0\0device/vif/0/state\x003\0");
    assert_eq!(Event::parse(&out[HEADER..length]), Ok(event));

    let header = assembled(&encoded(&Request::Read { path: "x" }, 5, 6), 99).unwrap()[0].0;
    let length = encode_error(&mut out, &header, Errno::NoEnt).unwrap();
    assert_eq!(&out[..length], b"\x10\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0ENOENT\0");
    assert_eq!(Errno::parse(&out[HEADER..length]), Ok(Errno::NoEnt));
    let length = encode_transaction(&mut out, &header, 77).unwrap();
    assert_eq!(&out[..length], b"\x06\0\0\0\x05\0\0\0\x06\0\0\0\x03\0\0\x0077\0");
    assert_eq!(transaction(&out[HEADER..length]), Ok(77));
}

#[test]
fn an_answer_that_makes_no_sense_is_refused() {
    assert_eq!(transaction(b"0\0"), Err(WireError::Text));
    assert_eq!(transaction(b"+1\0"), Err(WireError::Text));
    assert_eq!(transaction(b"4294967296\0"), Err(WireError::Text));
    assert_eq!(transaction(b"1"), Err(WireError::Text));
    assert_eq!(names(b""), Ok(""));
    assert_eq!(names(b"a\0bc\0"), Ok("a\0bc"));
    assert_eq!(names(b"a\0\0"), Err(WireError::Text));
    assert_eq!(names(b"a"), Err(WireError::Text));
    assert_eq!(Event::parse(b"path\0token"), Err(WireError::Text));
    assert_eq!(Event::parse(b"p\xff\0token\0"), Err(WireError::Text));
    assert_eq!(Errno::parse(b"EWHATEVER\0"), Ok(Errno::Inval));
    assert_eq!(Errno::parse(b"EIO"), Err(WireError::Text));
    for bad in [&b""[..], b"n5", b"x5\0", b"n\0", b"n65536\0", b"n-1\0", b"n5\0\0"] {
        assert_eq!(Permissions::parse(bad), Err(WireError::Text), "{bad:?}");
    }
    assert_eq!(DirectoryPart::parse(b"1\0"), Err(WireError::Text));
    assert_eq!(DirectoryPart::parse(b"1\0a"), Err(WireError::Text));
    let part = |names, last| Ok(DirectoryPart { generation: "1", names, last });
    assert_eq!(DirectoryPart::parse(b"1\0a\0"), part(b"a\0", false));
    assert_eq!(DirectoryPart::parse(b"1\0a\0\0"), part(b"a\0", true));
    assert_eq!(DirectoryPart::parse(b"1\0\0"), part(b"", true));
}

#[test]
fn what_would_not_be_one_path_is_not_sent() {
    let longest = "a".repeat(RELATIVE_PATH_MAX);
    let absolute = format!("/{}", "a".repeat(ABSOLUTE_PATH_MAX - 1));
    for good in ["/", "/a", "a", "a/b-c_d@e", &longest, &absolute] {
        assert_eq!(check_path(good), Ok(()), "{good:?}");
    }
    for bad in ["", "//", "/a/", "a//b", "a/", "a\0b", "a b", "ä", "a.b"] {
        assert_eq!(check_path(bad), Err(WireError::Path), "{bad:?}");
        let mut out = [0; MESSAGE_MAX];
        assert_eq!(Request::Read { path: bad }.encode(0, 0, &mut out), Err(WireError::Path));
        // A server sees what is before the nul.
        let payload = [bad.as_bytes(), b"\0"].concat();
        assert_eq!(Request::parse(2, &payload).is_ok(), bad == "a\0b");
    }
    for long in [longest + "a", absolute + "a"] {
        assert_eq!(check_path(&long), Err(WireError::TooLong));
    }
}

#[test]
fn no_message_is_longer_than_the_store_takes() {
    let path = format!("/{}", "a".repeat(2100));
    let request = Request::Write { path: &path, value: &[b'x'; VALUE_MAX] };
    assert_eq!(request.encode(0, 0, &mut [0; 8192]), Err(WireError::TooLong));
    let request = Request::Write { path: "a", value: &[b'x'; VALUE_MAX + 1] };
    assert_eq!(request.encode(0, 0, &mut [0; 8192]), Err(WireError::TooLong));
    assert_eq!(Request::Read { path: "abc" }.encode(0, 0, &mut [0; 19]), Err(WireError::TooLong));
    assert_eq!(Request::Read { path: "abc" }.encode(0, 0, &mut [0; 3]), Err(WireError::TooLong));
    let many = [Permission { access: Access::Read, domid: DomId(1) }; 6];
    assert!(PermissionsText::new(&many).is_err());
    assert!(PermissionsText::new(&[]).is_err());
}

/// XSA-72.
#[test]
fn a_length_beyond_the_limit_ends_it() {
    let mut bytes = encoded(&Request::Read { path: "x" }, 0, 0);
    bytes[12..16].copy_from_slice(&4097_u32.to_le_bytes());
    assert_eq!(assembled(&bytes, 1), Err(WireError::Overlong(4097)));
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(assembled(&bytes, 99), Err(WireError::Overlong(u32::MAX)));
}

#[test]
fn each_error_has_its_name_back() {
    for errno in Errno::ALL {
        assert_eq!(Errno::from_name(errno.name()), Some(*errno));
    }
}

fn path() -> impl Strategy<Value = String> {
    "/?[a-z0-9@_-]{1,12}(/[a-zA-Z0-9]{1,8}){0,4}"
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in 0_u32..30,
        piece in 1_usize..40,
    ) {
        let _ = Request::parse(kind, &bytes);
        let _ = Event::parse(&bytes);
        let _ = DirectoryPart::parse(&bytes);
        let _ = names(&bytes);
        let _ = transaction(&bytes);
        let _ = Errno::parse(&bytes);
        if let Ok(permissions) = Permissions::parse(&bytes) {
            prop_assert!(permissions.iter().count() > 0);
        }
        let _ = assembled(&bytes, piece);
    }

    #[test]
    fn requests_come_back_whole_however_they_are_cut(
        path in path(),
        value in prop::collection::vec(any::<u8>(), 0..VALUE_MAX),
        token in any::<u32>(),
        id in any::<u32>(),
        transaction in any::<u32>(),
        piece in 1_usize..5000,
    ) {
        let token = token.to_string();
        let requests = [
            Request::Write { path: &path, value: &value },
            Request::Watch { path: &path, token: &token },
            Request::TransactionStart,
            Request::DirectoryPart { path: &path, offset: id },
        ];
        let bytes: Vec<u8> =
            requests.iter().flat_map(|request| encoded(request, id, transaction)).collect();
        let messages = assembled(&bytes, piece).unwrap();
        prop_assert_eq!(messages.len(), requests.len());
        for ((header, payload), request) in messages.iter().zip(requests) {
            prop_assert_eq!(header.request.get(), id);
            prop_assert_eq!(header.transaction.get(), transaction);
            prop_assert_eq!(Request::parse(header.kind.get(), payload), Ok(request));
        }
    }

    #[test]
    fn any_number_has_its_decimal(number in any::<u32>()) {
        let decimal = Decimal::new(number);
        prop_assert_eq!(decimal.as_str(), number.to_string());
    }
}
