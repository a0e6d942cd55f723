//! How people become members, and what their accounts are shared with.

use std::time::Duration;

use countersign::ids::MemberId;
use countersign::secret::TokenDigest;
use countersign::vault::{
    Error, InvitationDetails, InvitationKind, MemberDetails, Newcomer, Owner, Role, SessionDetails,
    SessionOf, Share, Shares, Vault,
};

use crate::house::{House, after, slack, tokens};

fn digest(text: &str) -> TokenDigest {
    TokenDigest::of(text.as_bytes())
}

fn newcomer(email: &str) -> Newcomer {
    Newcomer {
        email: email.to_owned(),
        name: email.to_owned(),
        password_hash: Some("$argon2id$".to_owned()),
        oidc_subject: None,
    }
}

async fn invite(vault: &Vault, kind: InvitationKind, token: &str, role: Role) {
    let details = InvitationDetails {
        kind,
        email: None,
        role,
        member: None,
        invited_by: None,
        expires_at: after(60),
    };
    vault.create_invitation(digest(token), &details).await.unwrap();
}

fn details(email: &str, role: Role) -> MemberDetails {
    MemberDetails {
        email: email.to_owned(),
        name: email.to_owned(),
        role,
        oidc_subject: None,
        disabled: false,
    }
}

crate::on_both_engines! {
    async fn of_two_first_links_one_makes_the_first_owner(house: House) {
        let vault = house.open().await;
        invite(&vault, InvitationKind::First, "one", Role::Owner).await;
        invite(&vault, InvitationKind::First, "two", Role::Owner).await;
        let (ann, eve) = (newcomer("ann@acme.test"), newcomer("eve@acme.test"));
        let (one, two) = tokio::join!(
            vault.accept_invitation(digest("one"), &ann),
            vault.accept_invitation(digest("two"), &eve),
        );
        let made = [one.unwrap(), two.unwrap()];
        assert_eq!(made.iter().flatten().count(), 1);
        assert_eq!(vault.members().await.unwrap().len(), 1);
        assert!(vault.invitation(digest("one")).await.unwrap().is_none());
        assert!(vault.invitation(digest("two")).await.unwrap().is_none());
    }

    async fn an_invitation_is_used_once_and_stays_good_when_the_address_is_taken(house: House) {
        let vault = house.open().await;
        vault.create_member(&details("ann@acme.test", Role::Owner)).await.unwrap();
        invite(&vault, InvitationKind::Invite, "one", Role::Admin).await;
        let taken = vault.accept_invitation(digest("one"), &newcomer("ANN@acme.test")).await;
        assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
        let made = vault.accept_invitation(digest("one"), &newcomer("ben@acme.test")).await;
        assert_eq!(made.unwrap().unwrap().role, Role::Admin);
        let again = vault.accept_invitation(digest("one"), &newcomer("eve@acme.test")).await;
        assert!(again.unwrap().is_none());
        invite(&vault, InvitationKind::Invite, "late", Role::Owner).await;
        house.clock.advance(Duration::from_secs(61));
        let late = vault.accept_invitation(digest("late"), &newcomer("eve@acme.test")).await;
        assert!(late.unwrap().is_none() && vault.invitations().await.unwrap().is_empty());
    }

    async fn a_new_password_ends_the_sessions(house: House) {
        let vault = house.open().await;
        let ann = vault.create_member(&details("ann@acme.test", Role::Owner)).await.unwrap();
        let session = SessionDetails {
            of: SessionOf::Member(ann.id.clone()),
            scopes: Vec::new(),
            user_agent: None,
            expires_at: after(3600),
        };
        for name in ["a", "b", "c"] {
            vault.create_session(digest(name), &session).await.unwrap();
        }
        assert!(vault.change_password(&ann.id, "$new$", digest("b")).await.unwrap());
        let left = vault.sessions_of(&ann.id).await.unwrap();
        assert!(left.len() == 1 && left[0].digest == digest("b"));
        let reset = InvitationDetails {
            kind: InvitationKind::Reset,
            email: None,
            role: Role::Owner,
            member: Some(ann.id.clone()),
            invited_by: None,
            expires_at: after(60),
        };
        vault.create_invitation(digest("reset"), &reset).await.unwrap();
        assert!(vault.accept_invitation(digest("reset"), &newcomer("eve@acme.test")).await.is_err());
        assert_eq!(vault.accept_reset(digest("reset"), "$newer$").await.unwrap(), Some(ann.id.clone()));
        assert_eq!(vault.accept_reset(digest("reset"), "$newest$").await.unwrap(), None);
        assert_eq!(vault.password_hash(&ann.id).await.unwrap().as_deref(), Some("$newer$"));
        assert!(vault.sessions_of(&ann.id).await.unwrap().is_empty());
    }

    async fn two_owners_who_remove_each_other_leave_one(house: House) {
        let vault = house.open().await;
        let one = vault.create_member(&details("one@acme.test", Role::Owner)).await.unwrap();
        let two = vault.create_member(&details("two@acme.test", Role::Owner)).await.unwrap();
        let (first, second) =
            tokio::join!(vault.delete_member(&one.id), vault.delete_member(&two.id));
        assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1);
        assert_eq!(vault.members().await.unwrap().len(), 1);
    }

    async fn sharing_is_replaced_whole_and_an_account_can_be_given(house: House) {
        let vault = house.open().await;
        let ann = vault.create_member(&details("ann@acme.test", Role::Member)).await.unwrap();
        let ben = vault.create_member(&details("ben@acme.test", Role::Member)).await.unwrap();
        let account = vault.create_account(&slack(), &tokens("a", "r")).await.unwrap();
        let standing = async |member: &MemberId| {
            let shares: Shares = vault.shares().await.unwrap().into_iter().collect();
            let (member, account) =
                tokio::join!(vault.member(member), vault.account(&account.id));
            let standing = shares.standing(&member.unwrap().unwrap(), &account.unwrap().unwrap());
            (standing.owns, standing.shared)
        };
        assert_eq!(standing(&ann.id).await, (false, false));
        assert!(vault.give_account(&account.id, Some(&ann.id)).await.unwrap());
        vault.set_shares(&account.id, &[Share::Workspace], Some(&ann.id)).await.unwrap();
        assert_eq!((standing(&ann.id).await, standing(&ben.id).await), ((true, true), (false, true)));
        vault.set_shares(&account.id, &[Share::Member(ann.id.clone())], None).await.unwrap();
        assert_eq!(standing(&ben.id).await, (false, false));
        assert!(vault.give_account(&account.id, None).await.unwrap());
        let owner = vault.account(&account.id).await.unwrap().unwrap().owner;
        assert_eq!(owner, Owner::Workspace);
    }
}
