package ses

import (
	"fmt"
	"strings"
	"time"
)

// words is one language. Each %s is named in the comment beside its field.
type words struct {
	lang  string
	date  func(time.Time) string
	colon string // between company and title in the subject

	title              string
	preheader          string // app
	hello, greetingEnd string // the name stands between
	intro              string
	introCompany       string // company
	badgeLabel         string

	stepsTitle       string
	install          string // app
	installFromStore string // app
	storeLabel       string // app, store
	someApp          string // for an app without a name
	enter            string
	codeLabel        string
	wait             string
	expiry           string // date
	secret           string

	help, helpReply string // help is followed by the contact
	unexpected      string
	automatic       string
}

// wordsFor picks the language of a locale; only its first part counts.
func wordsFor(locale string) words {
	lang, _, _ := strings.Cut(strings.ReplaceAll(strings.ToLower(locale), "_", "-"), "-")
	if w, ok := languages[lang]; ok {
		return w
	}
	return languages["en"]
}

var languages = map[string]words{
	"en": {
		lang: "en",
		date: func(t time.Time) string {
			return t.Format("Monday, January 2, 2006 at 3:04 PM") + offset(t)
		},
		colon:       ": ",
		title:       "Your phone badge is ready",
		preheader:   "Get %s and enter the invitation code in this e-mail.",
		hello:       "Hello",
		greetingEnd: ",",
		intro: "You have been given a badge for your phone. Once it is activated, you can open doors with " +
			"your phone.",
		introCompany: "%s has given you a badge for your phone. Once it is activated, you can open doors with " +
			"your phone.",
		badgeLabel:       "Badge:",
		stepsTitle:       "How to activate it",
		install:          "Install %s on the phone you want to use.",
		installFromStore: "Install %s from your phone’s app store.",
		storeLabel:       "Get %s from %s",
		someApp:          "the badge app",
		enter:            "Open the app and enter your invitation code:",
		codeLabel:        "Invitation code",
		wait:             "Keep the app open until your badge appears. This can take a few minutes.",
		expiry:           "Use the code before %s.",
		secret:           "It works once, on one phone. Do not pass it on.",
		help:             "Questions? Contact",
		helpReply:        "Questions? Reply to this e-mail.",
		unexpected:       "Not expecting this? You can ignore this e-mail: the code expires unused.",
		automatic:        "This e-mail was sent automatically because a badge was assigned to you.",
	},
	"fr": {
		lang: "fr",
		date: func(t time.Time) string {
			day := fmt.Sprint(t.Day())
			if t.Day() == 1 {
				day = "1er"
			}
			return fmt.Sprintf("%s %s %s %d à %d\u00a0h\u00a0%02d", frDays[t.Weekday()], day, frMonths[t.Month()-1],
				t.Year(), t.Hour(), t.Minute()) + offset(t)
		},
		colon:       "\u00a0: ",
		title:       "Votre badge mobile est prêt",
		preheader:   "Installez %s et saisissez le code d’invitation contenu dans cet e-mail.",
		hello:       "Bonjour",
		greetingEnd: ",",
		intro: "Un badge pour votre téléphone vous a été attribué. Une fois activé, il vous permet " +
			"d’ouvrir les portes avec votre téléphone.",
		introCompany: "%s vous a attribué un badge pour votre téléphone. Une fois activé, il vous permet " +
			"d’ouvrir les portes avec votre téléphone.",
		badgeLabel:       "Badge\u00a0:",
		stepsTitle:       "Comment l’activer",
		install:          "Installez %s sur le téléphone que vous souhaitez utiliser.",
		installFromStore: "Installez %s depuis la boutique d’applications de votre téléphone.",
		storeLabel:       "Obtenir %s sur %s",
		someApp:          "l’application de badge",
		enter:            "Ouvrez l’application et saisissez votre code d’invitation\u00a0:",
		codeLabel:        "Code d’invitation",
		wait: "Gardez l’application ouverte jusqu’à ce que votre badge apparaisse. Cela peut prendre " +
			"quelques minutes.",
		expiry:    "Utilisez le code avant le %s.",
		secret:    "Il ne fonctionne qu’une fois, sur un seul téléphone. Ne le transmettez à personne.",
		help:      "Des questions\u00a0? Contactez",
		helpReply: "Des questions\u00a0? Répondez à cet e-mail.",
		unexpected: "Vous n’attendiez pas ce message\u00a0? Vous pouvez l’ignorer\u00a0: " +
			"le code expirera sans avoir servi.",
		automatic: "Cet e-mail a été envoyé automatiquement, car un badge vous a été attribué.",
	},
	"de": {
		lang: "de",
		date: func(t time.Time) string {
			return fmt.Sprintf("%s, %d. %s %d, %s Uhr", deDays[t.Weekday()], t.Day(), deMonths[t.Month()-1], t.Year(),
				t.Format("15:04")) + offset(t)
		},
		colon:       ": ",
		title:       "Ihr Ausweis für das Smartphone ist bereit",
		preheader:   "Installieren Sie %s und geben Sie den Einladungscode aus dieser E-Mail ein.",
		hello:       "Guten Tag",
		greetingEnd: ",",
		intro: "Sie haben einen Ausweis für Ihr Smartphone erhalten. Sobald er aktiviert ist, öffnen Sie " +
			"Türen mit dem Smartphone.",
		introCompany: "Sie haben von %s einen Ausweis für Ihr Smartphone erhalten. Sobald er aktiviert ist, " +
			"öffnen Sie Türen mit dem Smartphone.",
		badgeLabel:       "Ausweis:",
		stepsTitle:       "So aktivieren Sie ihn",
		install:          "Installieren Sie %s auf dem Smartphone, das Sie verwenden möchten.",
		installFromStore: "Installieren Sie %s aus dem App-Store Ihres Smartphones.",
		storeLabel:       "%s laden: %s",
		someApp:          "die Ausweis-App",
		enter:            "Öffnen Sie die App und geben Sie Ihren Einladungscode ein:",
		codeLabel:        "Einladungscode",
		wait:             "Lassen Sie die App geöffnet, bis Ihr Ausweis erscheint. Das kann einige Minuten dauern.",
		expiry:           "Der Code gilt bis %s.",
		secret:           "Er funktioniert einmal, auf einem Smartphone. Geben Sie ihn nicht weiter.",
		help:             "Fragen? Kontakt:",
		helpReply:        "Fragen? Antworten Sie auf diese E-Mail.",
		unexpected: "Sie haben diese E-Mail nicht erwartet? Dann können Sie sie ignorieren: Der Code verfällt " +
			"ungenutzt.",
		automatic: "Diese E-Mail wurde automatisch versandt, weil Ihnen ein Ausweis zugeteilt wurde.",
	},
	"es": {
		lang: "es",
		date: func(t time.Time) string {
			return fmt.Sprintf("%s, %d de %s de %d, %s h", esDays[t.Weekday()], t.Day(), esMonths[t.Month()-1],
				t.Year(), t.Format("15:04")) + offset(t)
		},
		colon:       ": ",
		title:       "Su credencial móvil está lista",
		preheader:   "Instale %s e introduzca el código de invitación de este correo.",
		hello:       "Hola",
		greetingEnd: ":",
		intro: "Se le ha asignado una credencial para su teléfono. Una vez activada, podrá abrir puertas " +
			"con el teléfono.",
		introCompany: "%s le ha asignado una credencial para su teléfono. Una vez activada, podrá abrir puertas " +
			"con el teléfono.",
		badgeLabel:       "Credencial:",
		stepsTitle:       "Cómo activarla",
		install:          "Instale %s en el teléfono que quiera utilizar.",
		installFromStore: "Instale %s desde la tienda de aplicaciones de su teléfono.",
		storeLabel:       "Obtener %s en %s",
		someApp:          "la aplicación de credenciales",
		enter:            "Abra la aplicación e introduzca su código de invitación:",
		codeLabel:        "Código de invitación",
		wait:             "Mantenga la aplicación abierta hasta que aparezca su credencial. Puede tardar unos minutos.",
		expiry:           "Utilice el código antes del %s.",
		secret:           "Funciona una sola vez, en un solo teléfono. No lo comparta.",
		help:             "¿Tiene preguntas? Contacto:",
		helpReply:        "¿Tiene preguntas? Responda a este correo.",
		unexpected:       "¿No esperaba este mensaje? Puede ignorarlo: el código caducará sin usarse.",
		automatic:        "Este correo se ha enviado automáticamente porque se le ha asignado una credencial.",
	},
}

var (
	frDays   = [7]string{"dimanche", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"}
	frMonths = [12]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
		"octobre", "novembre", "décembre"}
	deDays   = [7]string{"Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"}
	deMonths = [12]string{"Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
		"November", "Dezember"}
	esDays   = [7]string{"domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"}
	esMonths = [12]string{"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre",
		"octubre", "noviembre", "diciembre"}
)

// offset says which clock a time is told on, in a form every language reads: " (UTC+2)", " (UTC−3:30)", " (UTC)".
// Abbreviations of time zones are ambiguous, and few readers know that of their own zone.
func offset(t time.Time) string {
	_, seconds := t.Zone()
	sign := "+"
	if seconds < 0 {
		sign, seconds = "−", -seconds
	}
	switch hours, minutes := seconds/3600, seconds%3600/60; {
	case seconds == 0:
		return " (UTC)"
	case minutes == 0:
		return fmt.Sprintf(" (UTC%s%d)", sign, hours)
	default:
		return fmt.Sprintf(" (UTC%s%d:%02d)", sign, hours, minutes)
	}
}
