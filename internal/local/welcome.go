package local

import "strings"

const welcome = `
  mobilecred runs on this machine.

    world   WORLD      mails, phones, the provider, events, the clock
    API     API/v1
    logs    DIR/logs

  The main job, by hand:

    TOKEN=$(curl -s WORLD/token)

    # a person, with a picture
    curl -X PUT API/v1/holders/E-1042 -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
      -d '{"kind":"cardholder","firstName":"Ada","lastName":"Lovelace","email":"ada@example.com"}'
    curl -X PUT API/v1/holders/E-1042/picture -H "Authorization: Bearer $TOKEN" -H 'Content-Type: image/jpeg' --data-binary @ada.jpg

    # a badge for her phone: reserved at the provider, and an invitation in her mail
    curl -X POST API/v1/holders/E-1042/credentials -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"profileId":"hq"}'
    curl -s WORLD/mail

    # she enters the code of the mail in the app
    curl -X POST WORLD/phones/ada-phone/redeem -d '{"code":"…"}'
    curl API/v1/holders/E-1042 -H "Authorization: Bearer $TOKEN"

    # and the badge is taken back
    curl -X DELETE API/v1/holders/E-1042/credentials/… -H "Authorization: Bearer $TOKEN"
`

// Welcome says where everything is and how the main job goes.
func Welcome(at Addresses, dir string) string {
	return strings.NewReplacer("WORLD", at.World, "API/", at.API+"/", "DIR", dir).Replace(welcome)
}
