//! The examples of RFC 7515, appendix A, and of RFC 8037, appendix A.4.

use data_encoding::BASE64URL_NOPAD;

use super::super::alg::{Alg, Hash};
use super::super::claims::Claims;
use super::super::keys::Secret;
use super::super::token::Parts;
use super::super::{InvalidToken, KeySet};

const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGF\
    tcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const HS256_KEY: &[u8] = b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const RS256: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb29\
    0Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF\
    9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12\
    jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77R\
    w";
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb29\
    0Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ES512: &str = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-K\
    GDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
const EDDSA: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhi\
    jcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const KEYS: &str = r#"{"keys":[
    {"kid":"RS256","use":"sig","kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},
    {"kid":"ES256","use":"sig","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kid":"ES512","use":"sig","kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"},
    {"kid":"EdDSA","use":"sig","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[test]
fn rfc_example_of_hs256_verifies() {
    let secret = Secret::new(&BASE64URL_NOPAD.decode(HS256_KEY).unwrap());
    let parts = Parts::of(HS256).unwrap();
    assert_eq!(parts.header().unwrap().alg, Alg::Hs(Hash::S256));
    assert!(secret.verifies(Hash::S256, parts.signed.as_bytes(), parts.signature()));
    assert!(!secret.verifies(Hash::S512, parts.signed.as_bytes(), parts.signature()));
    let claims = Claims::read(parts.claims()).unwrap();
    assert_eq!(claims.issuer(), "joe");
    assert!(claims.is_valid_at(1_300_819_379) && !claims.is_valid_at(1_300_819_380));
}

#[test]
fn rfc_examples_of_public_keys_verify_only_with_their_own_key() {
    let set = KeySet::parse(KEYS.as_bytes()).unwrap();
    let examples = [("RS256", RS256), ("ES256", ES256), ("ES512", ES512), ("EdDSA", EDDSA)];
    for (name, token) in examples {
        let parts = Parts::of(token).unwrap();
        let alg = parts.header().unwrap().alg;
        assert_eq!(alg.name(), name);
        for (kid, _) in examples {
            let verdict = set.verify(kid, alg, parts.signed.as_bytes(), parts.signature());
            assert_eq!(
                verdict,
                Some(if kid == name { Ok(()) } else { Err(InvalidToken::KeyKind) }),
                "{name} with {kid}"
            );
        }
        assert_eq!(set.verify("other", alg, parts.signed.as_bytes(), parts.signature()), None);
        let changed = parts.signed.replace("Ijp0", "Ijp1").replace("9hZA", "9hZB").replace("bmc", "bmd");
        let verdict = set.verify(name, alg, changed.as_bytes(), parts.signature());
        assert_eq!(verdict, Some(Err(InvalidToken::Signature)), "{name}");
    }
}

/// RFC 7515, appendix A.5.
#[test]
fn rfc_example_of_a_token_without_signature_is_refused() {
    let token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0\
        cnVlfQ.";
    assert_eq!(Parts::of(token).unwrap().header().unwrap_err(), InvalidToken::Algorithm);
}
