"""The two steps around the service: what the goods cost, and what the customer is told."""


def price(order):
    """Adds the sum of the lines, in cents."""
    lines = order["lines"]
    order["total"] = sum(line["count"] * line["cents"] for line in lines)
    order["parcel"] = {"country": order["country"], "grams": sum(line["count"] * line["grams"] for line in lines)}
    return order


def confirm(order):
    """Makes the confirmation."""
    cents = order["total"] + order["postage"]["cents"]
    return {
        "order": order["number"],
        "text": "%d.%02d EUR with postage, delivered in %d days" % (cents // 100, cents % 100, order["postage"]["days"]),
    }
