package issuance_test

import (
	"fmt"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// operations are all rows of the matrix. Commands and reports are written down; what the sweep has to do of them when
// nothing else does follows from them.
func operations() []operation {
	all := append(commands(), reports()...)
	for _, op := range commands() {
		all = append(all, op.leftToTheSweep())
	}
	for _, op := range reports() {
		all = append(all, op.lostOnItsWay())
	}
	return append(all, duties()...)
}

// leftToTheSweep is the sweep that finishes a command whose process was killed when it had written it.
func (op operation) leftToTheSweep() operation {
	return operation{
		name: "sweep finishes: " + op.name, adjust: op.adjust,
		prepare: func(s *stage) {
			if op.prepare != nil {
				op.prepare(s)
			}
			s.set(func(f *fate) { f.underWay, f.misfortune = true, &misfortune{"Commit after", 1, kill} })
			_ = s.inProcess(op.do)
			s.forget()
			s.Advance(sweepEvery)
		},
		do: sweepIn,
	}
}

// lostOnItsWay is the sweep that finds a report in the provider's feed because its callback was lost.
func (op operation) lostOnItsWay() operation {
	return operation{
		name: "sweep finds: " + op.name, adjust: op.adjust,
		prepare: func(s *stage) {
			op.prepare(s)
			s.lose()
			s.Advance(time.Second)
		},
		do: sweepIn,
	}
}

func sweepIn(s *stage, p *issuance.Service) error {
	_, err := p.Sweep(s.Ctx, s.Accounts())
	return err
}

// The stages of a credential of E-1, as prepare makes them.

func invited(s *stage) {
	s.first = s.Assign("E-1")
	s.heard()
	s.Advance(2 * time.Minute)
}

func activating(s *stage) {
	invited(s)
	s.Must(s.Sim.Accept("phone-a", s.CodeOf(s.first)))
	s.heard()
}

func activated(s *stage) {
	invited(s)
	s.Must(s.Sim.Redeem("phone-a", s.CodeOf(s.first)))
	s.heard()
}

func withPicture(s *stage) {
	activated(s)
	s.Must(s.Service.PutPicture(s.Ctx, "E-1", portraitNamed("p1"), s.Portal))
	s.sweep()
}

func portraitNamed(hash string) credential.Picture {
	return credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: hash}
}

var stages = map[string]func(*stage){"invited": invited, "activating": activating, "activated": activated}

// request is the portal's, with a key, so that repeating it is safe.
func (s *stage) request(route string) credential.Request {
	r := s.Portal
	r.Route, r.Key, r.PayloadHash = route, "key", route
	return r
}

func assignTo(holderID string) func(*stage, *issuance.Service) error {
	return func(s *stage, p *issuance.Service) error {
		_, err := p.Assign(s.Ctx, credential.Assign{Request: s.request("assign"), HolderID: holderID, ProfileID: "hq"})
		return err
	}
}

func assignAndWait(s *stage, p *issuance.Service) error {
	_, err := p.Assign(s.Ctx, credential.Assign{
		Request: s.request("assign"), HolderID: "E-1", ProfileID: "hq", Wait: true,
	})
	return err
}

func endFor(reason credential.EndReason) func(*stage, *issuance.Service) error {
	return func(s *stage, p *issuance.Service) error {
		_, err := p.End(s.Ctx, credential.End{Request: s.request("end"), HolderID: "E-1", CredentialID: s.first.ID,
			Reason: reason})
		return err
	}
}

func replaceFor(reason credential.EndReason) func(*stage, *issuance.Service) error {
	return func(s *stage, p *issuance.Service) error {
		_, err := p.Replace(s.Ctx, credential.Replace{Request: s.request("replace"), HolderID: "E-1",
			CredentialID: s.first.ID, Reason: reason})
		return err
	}
}

func erase(s *stage, p *issuance.Service) error { return p.Erase(s.Ctx, "E-1", s.Portal) }

func describeAnew(s *stage, p *issuance.Service) error {
	h := credential.Holder{ID: "E-1", Kind: credential.Cardholder, FirstName: "Aimée", LastName: "Roy",
		Email: "roy@example.com"}
	_, _, err := p.PutHolder(s.Ctx, credential.PutHolder{Request: s.Portal, Holder: h})
	return err
}

// visitOver says that the visit of E-1 is over.
func visitOver(s *stage, p *issuance.Service) error {
	until := s.Now().Add(-time.Minute).Truncate(time.Hour)
	h := credential.Holder{ID: "E-1", Kind: credential.Visitor, FirstName: "Aimée", LastName: "Tremblay",
		Email: "e-1@example.com", ValidUntil: &until}
	_, _, err := p.PutHolder(s.Ctx, credential.PutHolder{Request: s.Portal, Holder: h})
	return err
}

// commands are what the portal asks for, from each stage in which that means something else.
func commands() []operation {
	command := func(name string, prepare func(*stage), do func(*stage, *issuance.Service) error) operation {
		return operation{name: name, isCommand: true, prepare: prepare, do: do}
	}
	all := []operation{
		command("assign", nil, assignTo("E-1")),
		command("assign if there is none", nil, func(s *stage, p *issuance.Service) error {
			_, err := p.Assign(s.Ctx, credential.Assign{
				Request: s.request("assign"), HolderID: "E-1", ProfileID: "hq", IfNone: true,
			})
			return err
		}),
		command("assign to a new holder", nil, func(s *stage, p *issuance.Service) error {
			h := credential.Holder{
				Kind:      credential.Cardholder,
				FirstName: "Bea",
				LastName:  "Roy",
				Email:     "b@example.com",
			}
			_, err := p.Assign(s.Ctx, credential.Assign{Request: s.request("assign"), HolderID: "E-2", ProfileID: "hq",
				Holder: &h})
			return err
		}),
		command("assign a second", invited, assignTo("E-1")),
		command("assign after activation", activated, assignTo("E-1")),
		command("assign what another had", func(s *stage) {
			invited(s)
			s.Must(s.Cancel(account, s.CodeOf(s.first)))
			s.lose()
			s.PutHolder("E-2")
		}, assignTo("E-2")),
		command("assign what was spent", func(s *stage) {
			s.Must(s.Store.Commit(s.Ctx, credential.Change{At: s.Now(), Owners: []credential.Owner{{
				Account: account, MobileID: part + ":1", State: credential.OwnerSpent, UpdatedAt: s.Now(), Revision: 1,
			}}}))
		}, assignTo("E-1")),
		command("assign with an e-mail in use", func(s *stage) {
			s.Must(s.Reassign(account, part2+":1", "stranger"))
			s.PutHolder("E-1", func(h *credential.Holder) { h.Email = s.Sim.State().Users[0].Email })
			s.heard()
		}, assignTo("E-1")),
		command("resend", invited, func(s *stage, p *issuance.Service) error {
			_, err := p.Resend(s.Ctx, credential.Resend{Request: s.request("resend"), HolderID: "E-1",
				CredentialID: s.first.ID})
			return err
		}),
		command("delete again", func(s *stage) {
			activated(s)
			s.Must(endFor(credential.EndDeleted)(s, s.Service))
			s.heard()
		}, func(s *stage, p *issuance.Service) error {
			_, err := p.End(s.Ctx, credential.End{Request: s.request("end again"), HolderID: "E-1",
				CredentialID: s.first.ID, Reason: credential.EndDeleted})
			return err
		}),
		command("erase without a credential", nil, erase),
		command("erase with a picture", withPicture, erase),
		command("erase two", func(s *stage) {
			activated(s)
			s.second = s.Assign("E-1")
			s.heard()
		}, erase),
		command("describe anew", nil, describeAnew),
		command("put a picture", activated, func(s *stage, p *issuance.Service) error {
			return p.PutPicture(s.Ctx, "E-1", portraitNamed("p1"), s.Portal)
		}),
		command("put another picture", withPicture, func(s *stage, p *issuance.Service) error {
			return p.PutPicture(s.Ctx, "E-1", portraitNamed("p2"), s.Portal)
		}),
		command("remove the picture", withPicture, func(s *stage, p *issuance.Service) error {
			return p.RemovePicture(s.Ctx, "E-1", s.Portal)
		}),
	}
	for _, empty := range []operation{
		command("assign from an empty pool", func(s *stage) {
			s.PutHolder("E-2")
			s.Assign("E-2")
			s.heard()
		}, assignTo("E-1")),
		command("assign and wait, from an empty pool", func(s *stage) {
			s.PutHolder("E-2")
			s.Assign("E-2")
			s.heard()
		}, assignAndWait),
		command("assign behind one that waits", func(s *stage) {
			oneWaits(s)
			s.freeOne()
			s.PutHolder("E-3")
		}, assignTo("E-3")),
		command("replace, upgrade, from an empty pool", activated, replaceFor(credential.EndUpgrade)),
		command("replace, stolen, from an empty pool", activated, replaceFor(credential.EndStolen)),
	} {
		empty.adjust = func(o *worldtest.Options) { o.Pools[part] = 1 }
		all = append(all, empty)
	}
	for _, name := range []string{"invited", "activating", "activated"} {
		at := stages[name]
		for _, reason := range []credential.EndReason{credential.EndDeleted, credential.EndLost, credential.EndStolen} {
			all = append(all, command(fmt.Sprintf("end, %s, when %s", reason, name), at, endFor(reason)))
		}
		for _, reason := range []credential.EndReason{credential.EndUpgrade, credential.EndLost, credential.EndStolen} {
			all = append(all, command(fmt.Sprintf("replace, %s, when %s", reason, name), at, replaceFor(reason)))
		}
		all = append(all, command("erase when "+name, at, erase), command("describe anew when "+name, at, describeAnew),
			command("the visit is over when "+name, at, visitOver))
	}
	return all
}

// oneWaits has E-1 wait for the only mobile ID, which E-2 has.
func oneWaits(s *stage) {
	s.PutHolder("E-2")
	s.second = s.Assign("E-2")
	s.heard()
	s.Advance(time.Second)
	s.Must(assignAndWait(s, s.Service))
	s.Advance(time.Second)
}

// freeOne has E-2 give back what it has.
func (s *stage) freeOne() {
	_, err := s.End(s.second, credential.EndDeleted)
	s.Must(err)
	s.heard()
}

// reports are what a provider reports by itself.
func reports() []operation {
	report := func(name string, happens ...func(*stage)) operation {
		return operation{
			name: "report: " + name,
			prepare: func(s *stage) {
				for _, h := range happens {
					h(s)
				}
				s.Settle()
			},
			do: func(s *stage, p *issuance.Service) error {
				// What was reported is heard again when it could not be applied: by the bus.
				facts := s.takeReports()
				for _, f := range facts {
					if err := p.Refresh(s.Ctx, f); err != nil {
						return err
					}
				}
				return nil
			},
		}
	}
	must := func(f func(*stage) error) func(*stage) { return func(s *stage) { s.Must(f(s)) } }
	redeemed := must(func(s *stage) error { return s.Sim.Redeem("phone-a", s.CodeOf(s.first)) })
	accepted := must(func(s *stage) error { return s.Sim.Accept("phone-a", s.CodeOf(s.first)) })
	revoked := must(func(s *stage) error { return s.Sim.Revoke(s.first.Mobile.ID) })
	phoneRemoved := must(func(s *stage) error { return s.Sim.Remove("phone-a") })
	userDeleted := must(func(s *stage) error { return s.Client.DeleteUser(s.Ctx, s.first.UserID) })
	toStranger := must(func(s *stage) error { return s.Reassign(account, s.first.Mobile.ID, "stranger") })
	withE2 := func(s *stage) {
		s.PutHolder("E-2")
		s.second = s.Assign("E-2")
		s.heard()
	}
	toE2 := must(func(s *stage) error { return s.Reassign(account, s.first.Mobile.ID, "E-2") })
	second := func(s *stage) {
		s.second = s.Assign("E-1")
		s.heard()
	}
	return []operation{
		report("invited", func(s *stage) { s.first = s.Assign("E-1") }),
		report("accepted", invited, accepted),
		report("activated", invited, redeemed),
		report("issued", activating, must(func(s *stage) error { return s.Sim.Sync("phone-a") })),
		report("activated with a picture", invited, must(func(s *stage) error {
			return s.Service.PutPicture(s.Ctx, "E-1", portraitNamed("p1"), s.Portal)
		}), redeemed),
		report("declined", invited, must(func(s *stage) error { return s.Cancel(account, s.CodeOf(s.first)) })),
		report("expired", invited, func(s *stage) { s.Advance(8 * 24 * time.Hour) }),
		report("revoked when invited", invited, revoked),
		report("revoked when activating", activating, revoked),
		report("revoked when activated", activated, revoked),
		report("given to a stranger", invited, toStranger),
		report("given to a stranger when activated", activated, toStranger),
		report("redeemed by a stranger when activated", activated, toStranger, must(func(s *stage) error {
			return s.Sim.Redeem("phone-s", s.CodeAtProvider(account, "stranger"))
		})),
		report("given to a holder of ours", invited, withE2, toE2),
		report("phone removed when activating", activating, phoneRemoved),
		report("phone removed when activated", activated, phoneRemoved),
		report("user deleted when invited", invited, userDeleted),
		report("user deleted when activated", activated, userDeleted),
		report("a second one on the phone", activated, second, must(func(s *stage) error {
			return s.Sim.Redeem("phone-a", s.CodeOf(s.second))
		})),
		report("the first one on the phone of the second", invited, second, must(func(s *stage) error {
			return s.Sim.Redeem("phone-a", s.CodeOf(s.second))
		}), (*stage).heard, redeemed),
		report("accepted and gone again", invited, redeemed, phoneRemoved),
	}
}

// duties are what falls due by itself, and what one misfortune has left.
func duties() []operation {
	duty := func(name string, prepare func(*stage)) operation {
		return operation{name: "sweep: " + name, prepare: prepare, do: sweepIn}
	}
	visit := func(s *stage) {
		until := s.Now().Add(time.Hour)
		s.PutHolder("E-1", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &until })
	}
	// struckAt assigns in a process that one misfortune meets.
	struckAt := func(point string, v worldtest.Verdict, wait time.Duration) func(*stage) {
		return func(s *stage) {
			s.set(func(f *fate) { f.underWay, f.misfortune = true, &misfortune{point, 1, v} })
			_ = s.inProcess(assignTo("E-1"))
			mailed := s.mailed
			s.forget()
			for _, id := range mailed {
				s.Mailbox.MayRepeat(id)
			}
			s.lose()
			s.Advance(wait)
		}
	}
	down := func(do func(*stage, *issuance.Service) error) func(*stage) {
		return func(s *stage) {
			s.set(func(f *fate) { f.isDown = true })
			_ = s.inProcess(do)
			s.sweep()
			s.set(func(f *fate) { f.isDown = false })
			s.Advance(sweepEvery)
		}
	}
	served := duty("serve the one that waits", func(s *stage) {
		oneWaits(s)
		s.freeOne()
	})
	served.adjust = func(o *worldtest.Options) { o.Pools[part] = 1 }
	return []operation{
		served,
		{name: "wake: the visit is over", prepare: func(s *stage) {
			activated(s)
			s.Must(visitOver(s, s.Service))
		}, do: func(s *stage, p *issuance.Service) error { return p.Wake(s.Ctx, "E-1", account) }},
		duty("look at the stock", func(s *stage) { s.Advance(6 * time.Minute) }),
		duty("expire", func(s *stage) {
			invited(s)
			s.lose()
			s.SetNow(s.Now().Add(7*24*time.Hour - 2*time.Minute)) // the provider has not noticed yet
		}),
		duty("expire what was accepted in time", func(s *stage) {
			invited(s)
			s.Must(s.Sim.Redeem("phone-a", s.CodeOf(s.first)))
			s.lose()
			s.Advance(7 * 24 * time.Hour)
		}),
		duty("end the visit when invited", func(s *stage) {
			visit(s)
			invited(s)
			s.Advance(time.Hour)
		}),
		duty("end the visit when activated", func(s *stage) {
			visit(s)
			activated(s)
			s.Advance(time.Hour)
		}),
		duty("look again", func(s *stage) {
			activating(s)
			s.Must(s.Sim.Sync("phone-a"))
			s.lose()
			s.Advance(sweepEvery)
		}),
		duty("settle a doubt, nothing reserved", struckAt("create user", worldtest.Timeout, sweepEvery)),
		duty("settle a doubt, reserved", struckAt("create user after", worldtest.Timeout, sweepEvery)),
		duty("settle a doubt, reserved late", struckAt("create user", worldtest.Late, sweepEvery)),
		duty("settle a doubt of a killed process", struckAt("create user after", kill, sweepEvery)),
		duty("mail in doubt", struckAt("mail", worldtest.MailUnheard, sweepEvery)),
		duty("mail of a killed process", struckAt("mail after", kill, sweepEvery)),
		duty("mail refused", struckAt("mail", worldtest.MailRejected, sweepEvery)),
		duty("assign after an outage", down(assignTo("E-1"))),
		duty("end after an outage", func(s *stage) {
			activated(s)
			down(endFor(credential.EndStolen))(s)
		}),
		duty("erase after an outage", func(s *stage) {
			withPicture(s)
			down(erase)(s)
		}),
	}
}
